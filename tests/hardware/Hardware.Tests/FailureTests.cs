using System.Runtime.InteropServices;
using VirtPS.Engine;
using VirtPS.Engine.Host;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Hardware.Tests;

/// <summary>What a machine becomes when KVM fails under it: Crashed, with the reason, registers and code; the process goes on and runs the next one.</summary>
[Collection("/dev/kvm")]
public sealed unsafe partial class FailureTests : IDisposable
{
    private const int Enodev = 19, Eio = 5, Eperm = 1;

    // 16 bits, at 0x7C00: mov ax, 0x1234; again: out 0x80, al; jmp again
    private static readonly byte[] s_loop = [0xB8, 0x34, 0x12, 0xE6, 0x80, 0xEB, 0xFC];

    private readonly string _folder = Directory.CreateTempSubdirectory("virtps-failure-").FullName;

    public static TheoryData<string, string> Faults => new()
    {
        { "unknown exit", "KVM exit 999, which nobody here knows" },
        { "failed entry", "KVM could not enter the guest: hardware reason 0x80000021" },
        { "internal error", "KVM internal error 3 (event delivery failed)" },
        { "device gone", "KVM_RUN failed: No such device" },
        { "refused", "KVM_RUN failed: Operation not permitted" },
        { "i/o error", "KVM_RUN failed: Input/output error" },
    };

    [Theory]
    [MemberData(nameof(Faults))]
    public void A_fault_in_the_middle_of_a_run_crashes_the_machine_with_registers_and_code(string fault, string expected)
    {
        RequireKvm();
        int entries = 0;
        MachineStateChange end = RunToEnd(s_loop, (vcpu, run) => ++entries <= 3 ? Enter(vcpu) : Inject(fault, run));
        Assert.Equal((VmState.Crashed, MachineCause.Failure), (end.To, end.Cause));
        Assert.StartsWith(expected, end.Reason, StringComparison.Ordinal);
        Assert.Matches("RIP 0x7C0[35], .*RAX 0x1234, .*CS 0x0, .*CR0 0x[0-9A-F]*0,", end.Reason);
        Assert.Matches("code (E680EBFC|EBFC)", end.Reason);
        TheProcessGoesOn();
    }

    /// <summary>All of KVM is gone, so that not even the registers can be read: the report says that.</summary>
    [Fact]
    public void A_kvm_that_vanishes_altogether_crashes_the_machine()
    {
        RequireKvm();
        int entries = 0;
        MachineStateChange end = RunToEnd(s_loop, (vcpu, run) =>
        {
            if (++entries == 3)
                PutNullDeviceAt(vcpu);
            return Enter(vcpu);
        });
        Assert.Equal((VmState.Crashed, MachineCause.Failure), (end.To, end.Cause));
        Assert.StartsWith("KVM_RUN failed: Inappropriate ioctl for device. vCPU 0; its registers cannot be read: KVM refused the general registers", end.Reason, StringComparison.Ordinal);
        TheProcessGoesOn();
    }

    /// <summary>Not staged: KVM itself reports this one.</summary>
    [Fact]
    public void A_triple_fault_crashes_the_machine_with_place_and_code()
    {
        RequireKvm();
        // lidt [rip+4], which is zero; ud2; jmp $
        byte[] code = [0x0F, 0x01, 0x1D, 0x04, 0, 0, 0, 0x0F, 0x0B, 0xEB, 0xFE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        MachineStateChange end = RunToEnd(code, null, FlatEntryMode.Long64);
        Assert.Equal((VmState.Crashed, MachineCause.TripleFault), (end.To, end.Cause));
        Assert.StartsWith("Triple fault on vCPU 0 at ", end.Reason, StringComparison.Ordinal);
        // A processor with SVM has lost the place by then.
        if (KvmDevice.IsParavirtual)
            Assert.Matches(":7C07 .*code 0F0BEBFE", end.Reason);
        TheProcessGoesOn();
    }

    /// <summary>Nor this one: an SSE instruction on memory that is not there.</summary>
    [Fact]
    public void An_instruction_that_kvm_cannot_emulate_crashes_the_machine()
    {
        RequireKvm();
        // mov eax, cr4; or ax, 0x200; mov cr4, eax; mov ax, 0xFFFF; mov ds, ax; pand xmm0, [0xFFF0] at 0x10FFE0, behind the 1 MiB of memory
        byte[] code = [0x0F, 0x20, 0xE0, 0x0D, 0x00, 0x02, 0x0F, 0x22, 0xE0, 0xB8, 0xFF, 0xFF, 0x8E, 0xD8, 0x66, 0x0F, 0xDB, 0x06, 0xF0, 0xFF];
        MachineStateChange end = RunToEnd(code, null);
        Assert.Equal((VmState.Crashed, MachineCause.Failure), (end.To, end.Cause));
        Assert.StartsWith("KVM internal error 1 (emulation failed). vCPU 0 (Real, ring 0): RIP 0x7C0E,", end.Reason, StringComparison.Ordinal);
        Assert.Contains("DS 0xFFFF", end.Reason, StringComparison.Ordinal);
        Assert.Contains("code 660FDB06F0FF", end.Reason, StringComparison.Ordinal);
        TheProcessGoesOn();
    }

    /// <summary>The real KVM refuses a slot whose host address is not a page's: one error that names it, and nothing stays open.</summary>
    [Fact]
    public void Memory_that_kvm_refuses_is_an_error_that_names_it()
    {
        RequireKvm();
        int before = OpenFiles();
        VirtException e = Assert.Throws<VirtException>(() => Builder(s_loop, new BarePlatform { Distort = true }, new HardwareStrategy()).Build());
        Assert.Equal("StrategyUnavailable", e.ErrorId);
        Assert.Contains("KVM refused the memory slot 'ram-0' of 1 MiB at 0x0: ", e.Message, StringComparison.Ordinal);
        Assert.Equal(before, OpenFiles());
    }

    /// <summary>The host has no room for the second of two slots: the first is given back too.</summary>
    [Fact]
    public void Memory_that_the_host_refuses_leaves_nothing_behind()
    {
        RequireKvm();
        int before = OpenFiles();
        VirtException e = Assert.Throws<VirtException>(() => Builder(s_loop, new BarePlatform { TooMuchFrom = 1 }, new HardwareStrategy(), 4ul << 30).Build());
        Assert.Equal("MemoryUnavailable", e.ErrorId);
        Assert.Equal(before, OpenFiles());
        TheProcessGoesOn();
    }

    [Fact]
    public void A_device_that_is_not_there_is_named()
    {
        var options = new Dictionary<string, string> { ["device"] = Path.Combine(_folder, "kvm") };
        VirtException e = Assert.Throws<VirtException>(() => new HardwareStrategy().CreateBackend(options, NullLog.Instance));
        Assert.Equal("StrategyUnavailable", e.ErrorId);
        Assert.Contains(options["device"] + " does not exist", e.Message, StringComparison.Ordinal);
        Assert.NotNull(e.RecommendedAction);
    }

    /// <summary>The same id as in the strategy Full.</summary>
    [Fact]
    public void An_unknown_option_is_an_option_error()
    {
        VirtException e = Assert.Throws<VirtException>(() => new HardwareStrategy().CreateBackend(new Dictionary<string, string> { ["speed"] = "11" }, NullLog.Instance));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
        Assert.Contains("'speed'", e.Message, StringComparison.Ordinal);
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static int Inject(string fault, KvmRun* run)
    {
        switch (fault)
        {
            case "unknown exit":
                run->ExitReason = 999;
                return 0;
            case "failed entry":
                (run->ExitReason, run->HardwareReason) = (Kvm.ExitFailEntry, 0x8000_0021);
                return 0;
            case "internal error":
                (run->ExitReason, run->InternalSubError) = (Kvm.ExitInternalError, 3);
                return 0;
            default:
                Marshal.SetLastPInvokeError(fault == "device gone" ? Enodev : fault == "refused" ? Eperm : Eio);
                return -1;
        }
    }

    private static int Enter(int vcpu) => LinuxCalls.Ioctl(vcpu, Kvm.Run, (nuint)0);

    private static void PutNullDeviceAt(int fd)
    {
        int none = LinuxCalls.Open("/dev/null", LinuxCalls.ReadWrite | LinuxCalls.CloseOnExec);
        Assert.Equal(fd, Dup2(none, fd));
        _ = LinuxCalls.Close(none);
    }

    private MachineStateChange RunToEnd(byte[] code, KvmEntry? entry, FlatEntryMode mode = FlatEntryMode.Real16)
    {
        using Machine machine = Builder(code, new BarePlatform(), new HardwareStrategy(entry), mode: mode).Build();
        machine.PowerOn();
        MachineStateChange? end = machine.WaitForEnd(TimeSpan.FromSeconds(10));
        Assert.True(end is not null, "still running");
        return end;
    }

    private void TheProcessGoesOn()
    {
        using Machine machine = Builder(s_loop, new BarePlatform(), new HardwareStrategy()).Build();
        machine.PowerOn();
        Assert.True(SpinWait.SpinUntil(() => machine.MeasureRings()[0].Exits.GetValueOrDefault("IO") > 100, TimeSpan.FromSeconds(10)));
        Assert.Equal(VmState.Running, machine.State);
    }

    private MachineBuilder Builder(byte[] code, IHostPlatform platform, IStrategy strategy, ulong memory = 1 << 20, FlatEntryMode mode = FlatEntryMode.Real16)
    {
        string image = Path.Combine(_folder, $"{Guid.NewGuid():N}.bin");
        File.WriteAllBytes(image, code);
        var configuration = new VmConfiguration
        {
            Name = "failing",
            Id = Guid.NewGuid(),
            CreationTime = DateTimeOffset.UtcNow,
            Strategy = "Hardware",
            Memory = memory,
            ProcessorCount = 1,
            Boot = new BootConfiguration { Kind = BootKind.Flat, Kernel = image, LoadAddress = 0x7C00, EntryMode = mode },
        };
        return new MachineBuilder(configuration, new ListedParts([new AnyKvm(strategy)], [])) { Platform = platform, PlatformDevices = [] };
    }

    private static void RequireKvm()
    {
        using KvmDevice? probe = KvmDevice.TryOpen("/dev/kvm", out HostSupport support);
        Assert.SkipWhen(probe is null, support.Reason);
    }

    private static int OpenFiles() => Directory.EnumerateFileSystemEntries("/proc/self/fd")
        .Count(f => new FileInfo(f).LinkTarget is { } t && (t.Contains("kvm", StringComparison.Ordinal) || t.Contains("virtps", StringComparison.Ordinal)));

    [LibraryImport("libc", EntryPoint = "dup2")]
    private static partial int Dup2(int from, int to);

    /// <summary>Runs on a paravirtual KVM too: real mode is all that is needed.</summary>
    private sealed class AnyKvm(IStrategy strategy) : IStrategy
    {
        public StrategyInfo Info => strategy.Info;

        public IGuestInterface GuestInterface => strategy.GuestInterface;

        public HostSupport Probe() => new(true, "");

        public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => strategy.CreateBackend(options, log);

        public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => strategy.CreateCpuidPolicy(vcpuCount, options);
    }

    /// <summary>The host's own platform, with memory that cannot be had.</summary>
    private sealed class BarePlatform : IHostPlatform
    {
        private readonly IHostPlatform _host = HostPlatform.Create();
        private int _regions;

        /// <summary>Memory's address is off by one byte.</summary>
        public bool Distort { get; init; }

        /// <summary>From this region on, more is asked for than any address space has.</summary>
        public int TooMuchFrom { get; init; } = int.MaxValue;

        public string Name => _host.Name;

        public ulong PhysicalMemory => ulong.MaxValue;

        public IHostMemoryRegion AllocateGuestMemory(string name, ulong size)
        {
            IHostMemoryRegion region = _host.AllocateGuestMemory(name, _regions++ >= TooMuchFrom ? 1ul << 52 : size);
            return Distort ? new OffByOne(region) : region;
        }

        public HostEvent CreateEvent() => _host.CreateEvent();

        public void PrepareTimingThread() => _host.PrepareTimingThread();

        public HostDiskFile OpenDiskFile(string path, bool readOnly) => _host.OpenDiskFile(path, readOnly);
    }

    private sealed class OffByOne(IHostMemoryRegion region) : IHostMemoryRegion
    {
        public byte* Address => region.Address + 1;

        public ulong Size => region.Size;

        public int FileDescriptor => region.FileDescriptor;

        public ulong ResidentBytes => region.ResidentBytes;

        public void Discard(ulong offset, ulong length) => region.Discard(offset, length);

        public void Dispose() => region.Dispose();
    }
}
