using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Para.Boot;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// The domain as a device of its machine.
internal sealed unsafe partial class XenDomain
{
    public void Reset(ResetKind kind)
    {
        Area.Reset();
        Frames.Reset();
        Types.Reset();
        Ports.Reset();
        Grants.Reset();
        Store.Reset();
        foreach (XenVcpu v in Vcpus)
            v.Reset();
    }

    public void Load(GuestLoad load)
    {
        DomainBuilder builder = DomainBuilder.Load(this, load);
        using (EnterMmu(null))
        {
            Types.Budget = int.MaxValue;
            // One use is the first vCPU's root, one is a pin, as Xen's builder makes it: the guest unpins the table that it was born with.
            if (Types.Get(null, builder.RootFrame, FrameType.L4) != 0 || Types.Get(null, builder.RootFrame, FrameType.L4) != 0)
                throw new InvalidOperationException("The first page tables are not valid.");
            Frames.Find(builder.RootFrame)->Pinned = true;
            // Ring pages are written by the VMM for as long as the domain lives.
            Types.Hold(null, builder.StoreFrame, write: true);
            Types.Hold(null, builder.ConsoleFrame, write: true);
        }

        uint store = Store.Connect(Frames.Pointer(builder.StoreFrame));
        builder.WriteStartInfo(store, Console.Connect(Frames.Pointer(builder.ConsoleFrame)));
        WriteSharedInfo();
        VcpuState* s = load.Bootstrap;
        VcpuStart.Prepare(s, 0, builder.RootFrame);
        s->Rip = builder.Entry;
        s->Gpr[(int)Gpr.Rsi] = builder.StartInfo;
        s->Gpr[(int)Gpr.Rsp] = builder.StackTop;
        Vcpus[0].Begin(builder.RootFrame);
        Log.Write(LogLevel.Information, $"Xen PV kernel, entered at 0x{builder.Entry:X}; {Frames.RamFrames} frames, start_info at frame 0x{builder.StartInfoFrame:X}.");
    }

    public void Process(int vcpu)
    {
        try
        {
            Vcpus[vcpu].Process();
        }
        catch (Exception e) when (NoteFailure(e))
        {
            throw;
        }
    }

    public void Quiesce()
    {
        // The store, the console and timers act only on guest's requests and alarms, which the machine holds.
    }

    public DeviceState Save() => throw new VirtException("DeviceStateInvalid", "A Xen domain cannot be saved.", "Shut the guest down instead.");

    public void Restore(DeviceState state) => throw new VirtException("DeviceStateInvalid", "A Xen domain cannot be restored.", "Start the guest anew.");

    public void Resume()
    {
        // See Quiesce.
    }

    public void Dispose()
    {
        foreach (XenVcpu v in Vcpus)
            v.Dispose();
        Console.Dispose();
        Frames.Dispose();
    }

    /// <summary>The last state of a domain that cannot go on, for its log.</summary>
    public void ReportCrash(XenVcpu vcpu, VcpuState* s, string why) => Log.Write(LogLevel.Error,
        $"vCPU {vcpu.Index}: {why} RIP 0x{s->Rip:X}, CS 0x{s->CS.Selector:X4} ({(s->GuestKernel != 0 ? "kernel" : "user")}), RSP 0x{s->Gpr[(int)Gpr.Rsp]:X}, RFLAGS 0x{s->Rflags:X}, CR2 0x{s->Cr2:X}, CR3 0x{s->Cr3:X}, "
        + $"RAX 0x{s->Gpr[0]:X}, RBX 0x{s->Gpr[3]:X}, RCX 0x{s->Gpr[1]:X}, RDX 0x{s->Gpr[2]:X}, RSI 0x{s->Gpr[6]:X}, RDI 0x{s->Gpr[7]:X}, RBP 0x{s->Gpr[5]:X}.");

    private void WriteSharedInfo()
    {
        for (int i = 0; i < 32; i++)
            ((VcpuInfo*)SharedInfo)[i].UpcallMask = 1;
        Time.GuestClock.WriteWallClock(this);
    }
}
