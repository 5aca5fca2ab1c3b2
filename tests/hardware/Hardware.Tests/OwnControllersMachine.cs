using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Hardware;
using VirtPS.X86;

namespace VirtPS.Hardware.Tests;

/// <summary>A partition with KVM's interrupt controllers, 640 KiB of RAM and 16-bit code at 0000:7C00; each vCPU runs on a thread of its own. Works on a paravirtual KVM, too.</summary>
internal sealed unsafe class OwnControllersMachine : IDisposable
{
    public const ulong RamSize = 0xA0000;

    private readonly KvmBackend _backend = new(new HardwareOptions(HardwareOptions.DefaultDevice, true, true));
    private readonly List<Thread> _threads = [];
    private volatile bool _stop;

    public OwnControllersMachine(Action<Assembler>? code = null, int vcpus = 1)
    {
        Dictionary<string, string> options = new() { ["irqchip"] = "kernel" };
        Partition = _backend.CreatePartition(new PartitionOptions
        {
            VcpuCount = vcpus,
            Cpuid = new HardwareStrategy().CreateCpuidPolicy(vcpus, options),
            TscFrequency = _backend.Capabilities.TscFrequency ?? 1_000_000_000,
            Log = Sdk.NullLog.Instance,
        });
        Memory.Add(new MemorySlot("ram", 0, new HeapMemoryRegion(RamSize)));
        Memory.Attach(Partition);
        Vcpus = [.. Enumerable.Range(0, vcpus).Select(i => Partition.CreateVcpu(i, Host))];
        Partition.InterruptController!.Reset();
        if (code is not null)
            Load(0x7C00, code);
        VcpuState* s = Vcpus[0].State;
        s->CS = SegmentRegister.Real(0, code: true);
        s->Idtr = new DescriptorTable(0, 0x3FF);
        s->Rip = 0x7C00;
        s->Gpr[(int)Gpr.Rsp] = 0x7000;
    }

    public IPartition Partition { get; }

    public GuestMemory Memory { get; } = new();

    public ScriptedVcpuHost Host { get; } = new();

    public IVcpu[] Vcpus { get; }

    public void Load(uint address, Action<Assembler> code)
    {
        var assembler = new Assembler(16);
        code(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        Assert.True(Memory.TryWrite(address, stream.ToArray()));
    }

    public uint Read32(ulong address)
    {
        Span<byte> bytes = stackalloc byte[4];
        Assert.True(Memory.TryRead(address, bytes));
        return BitConverter.ToUInt32(bytes);
    }

    /// <summary>Time and vCPUs run.</summary>
    public void Go()
    {
        _stop = false;
        Partition.Resume();
        foreach (IVcpu vcpu in Vcpus)
        {
            var thread = new Thread(() =>
            {
                while (!_stop)
                {
                    VcpuExit exit = vcpu.Run();
                    if (exit != VcpuExit.Kicked)
                        return;
                }
            });
            _threads.Add(thread);
            thread.Start();
        }
    }

    public void Stop()
    {
        _stop = true;
        foreach (Thread thread in _threads)
        {
            do
            {
                foreach (IVcpu vcpu in Vcpus)
                {
                    Interlocked.Or(ref vcpu.State->Requests, (uint)VcpuRequests.Exit);
                    vcpu.Kick();
                }
            }
            while (!thread.Join(20));
        }

        _threads.Clear();
        foreach (IVcpu vcpu in Vcpus)
            Interlocked.And(ref vcpu.State->Requests, ~(uint)VcpuRequests.Exit);
        Partition.Pause();
    }

    public void WaitFor(ulong address, Func<uint, bool> condition) =>
        Assert.True(SpinWait.SpinUntil(() => condition(Read32(address)), TimeSpan.FromSeconds(5)), $"0x{address:X} is {Read32(address)}. {Host.Failure}");

    public void Dispose()
    {
        Stop();
        foreach (IVcpu vcpu in Vcpus)
            vcpu.Dispose();
        Partition.Dispose();
        Memory.Dispose();
        _backend.Dispose();
    }
}
