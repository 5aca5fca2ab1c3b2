using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// RDMSR and WRMSR (the rules are in MsrTable).
public sealed unsafe partial class SoftVcpu
{
    private HashSet<(uint Msr, bool Write)>? _reportedMsrs;

    /// <summary>False: #GP(0) recorded.</summary>
    internal bool ReadMsr(uint msr, out ulong value)
    {
        Counters->MsrAccesses++;
        if (MsrTable.TryGet(msr, out MsrPolicy? policy))
        {
            value = policy!.Read(this, msr);
            return true;
        }

        return Host.ReadMsr(msr, out value) || RefuseMsr(msr, write: false, 0);
    }

    internal bool WriteMsr(uint msr, ulong value)
    {
        Counters->MsrAccesses++;
        if (MsrTable.TryGet(msr, out MsrPolicy? policy))
            return (policy!.Write != null && policy.Write(this, msr, value)) || Raise(Vector.GP, 0);
        if (!Host.WriteMsr(msr, value))
            return RefuseMsr(msr, write: true, value);
        // The local APIC may have an interrupt for us now.
        LeaveBlock();
        return true;
    }

    private bool RefuseMsr(uint msr, bool write, ulong value)
    {
        // The machine, asked before, has said so to the user; here is where in the guest.
        if ((_reportedMsrs ??= []).Add((msr, write)))
        {
            Partition.Options.Log.Write(LogLevel.Debug, write
                ? $"vCPU {Index}: WRMSR 0x{msr:X} = 0x{value:X} at RIP 0x{S->Rip:X} is not known: #GP."
                : $"vCPU {Index}: RDMSR 0x{msr:X} at RIP 0x{S->Rip:X} is not known: #GP.");
        }

        return Raise(Vector.GP, 0);
    }

    /// <summary>A write to the TSC moves IA32_TSC_ADJUST by the same amount (SDM Vol. 3B §17.17.3).</summary>
    internal bool WriteTsc(ulong value)
    {
        ulong offset = value - Host.ReadMachineTsc();
        S->TscAdjust += offset - S->TscOffset;
        S->TscOffset = offset;
        TellOfTsc();
        return true;
    }

    internal bool WriteTscAdjust(ulong value)
    {
        S->TscOffset += value - S->TscAdjust;
        S->TscAdjust = value;
        TellOfTsc();
        return true;
    }

    /// <summary>The runner looks at the offset before the next instruction: a paravirtual clock is in the TSC's ticks.</summary>
    private void TellOfTsc() => Interlocked.Or(ref S->Requests, (uint)VcpuRequests.Exit);
}
