using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Hardware;
using VirtPS.X86;

namespace VirtPS.Hardware.Tests;

/// <summary>What is taken is given back; what goes wrong is told. Smoke tests of the ioctl layer: they run on a paravirtual KVM too.</summary>
[Collection("/dev/kvm")]
public sealed class ResourceTests
{
    private const string Device = "/dev/kvm";

    /// <summary>A partition with memory and a vCPU, made and dropped again and again, leaves no file descriptor and no mapping of a run structure.</summary>
    [Fact]
    public void A_thousand_partitions_leave_nothing_open()
    {
        using KvmDevice? probe = KvmDevice.TryOpen(Device, out HostSupport support);
        Assert.SkipWhen(probe is null, support.Reason);
        using var backend = new KvmBackend(new HardwareOptions(Device, false, false));
        CreateAndDrop(backend);
        (int files, int mappings) = (OpenFiles(), KvmMappings());
        Assert.True(files >= 2, "The two open devices are not counted.");
        for (int i = 0; i < 1000; i++)
            CreateAndDrop(backend);
        Assert.Equal((files, mappings), (OpenFiles(), KvmMappings()));
    }

    /// <summary>A vCPU that KVM refuses (its number is taken) is an error, and nothing of it stays open.</summary>
    [Fact]
    public void A_refused_vcpu_leaves_nothing_open()
    {
        using KvmDevice? probe = KvmDevice.TryOpen(Device, out HostSupport support);
        Assert.SkipWhen(probe is null, support.Reason);
        using var backend = new KvmBackend(new HardwareOptions(Device, false, false));
        using IPartition partition = backend.CreatePartition(Options());
        using IVcpu vcpu = partition.CreateVcpu(0, new ScriptedVcpuHost());
        (int files, int mappings) = (OpenFiles(), KvmMappings());
        VirtException e = Assert.Throws<VirtException>(() => partition.CreateVcpu(0, new ScriptedVcpuHost()));
        Assert.Contains("virtual processor 0", e.Message, StringComparison.Ordinal);
        Assert.Equal((files, mappings), (OpenFiles(), KvmMappings()));
    }

    /// <summary>An SSE instruction on a device's memory is none that KVM can carry out for the guest: the report names the error, the place and the code there.</summary>
    [Fact]
    public void A_failure_report_shows_the_code_at_rip()
    {
        using KvmDevice? probe = KvmDevice.TryOpen(Device, out HostSupport support);
        Assert.SkipWhen(probe is null, support.Reason);
        using var machine = new ConformanceMachine(new HardwareStrategy());
        // mov rax, MMIO; pand xmm0, [rax]; hlt
        machine.EnterLongMode(c => c.Mov(Gpr.Rax, ConformanceMachine.MmioAddress).Bytes(0x66, 0x0F, 0xDB, 0x00).Hlt());
        Assert.Equal(VcpuExit.Failed, machine.Run());
        Assert.Contains("KVM internal error 1 (emulation failed)", machine.Host.Failure, StringComparison.Ordinal);
        Assert.Contains("RIP 0x1000A,", machine.Host.Failure, StringComparison.Ordinal);
        Assert.Contains("code 660FDB00F4", machine.Host.Failure, StringComparison.Ordinal);
    }

    /// <summary>What Get-VirtStrategy and Test-VirtHost say where the device is missing or nothing serves it: the cause, and what to do. (Permission: HostPermission.Tests.ps1.)</summary>
    [Theory]
    [InlineData(LinuxCalls.ENOENT, "flags : fpu svm npt", "does not exist, although the processor has virtualization", "modprobe kvm-amd")]
    [InlineData(LinuxCalls.ENOENT, "flags : fpu vmx ept", "does not exist, although the processor has virtualization", "modprobe kvm-intel")]
    [InlineData(LinuxCalls.ENOENT, "flags : fpu sse2", "shows neither SVM nor VMX", "switch nested virtualization on at its host")]
    [InlineData(LinuxCalls.ENODEV, "flags : fpu svm", "exists but no KVM module serves it", "modprobe kvm-amd")]
    public void A_missing_device_has_its_cause_and_remedy(int error, string cpu, string reason, string action)
    {
        HostSupport support = KvmDevice.WhyNot("/dev/kvm", error, cpu);
        Assert.False(support.IsSupported);
        Assert.Contains(reason, support.Reason, StringComparison.Ordinal);
        Assert.Contains(action, support.RecommendedAction, StringComparison.Ordinal);
    }

    /// <summary>The real system call, for a device that is not there.</summary>
    [Fact]
    public void A_device_that_is_not_there_is_told()
    {
        Assert.Null(KvmDevice.TryOpen("/dev/no-kvm-here", out HostSupport support));
        Assert.StartsWith("/dev/no-kvm-here does not exist", support.Reason, StringComparison.Ordinal);
        Assert.NotNull(support.RecommendedAction);
    }

    /// <summary>What Measure-VirtRing shows of a vCPU: each return of KVM_RUN under KVM's name of its reason, KVM's own counters beside, and where the thread's time went.</summary>
    [Fact]
    public void Exits_are_counted_by_reason_and_time_by_place()
    {
        using KvmDevice? probe = KvmDevice.TryOpen(Device, out HostSupport support);
        Assert.SkipWhen(probe is null, support.Reason);
        using var machine = new ConformanceMachine(new HardwareStrategy());
        const ushort Writes = 20_000;
        // mov cx, Writes; out 0x80, al; loop to it; hlt
        machine.EnterRealMode(0xB9, Writes & 0xFF, Writes >> 8, 0xE6, 0x80, 0xE2, 0xFC, 0xF4);
        Assert.Equal(VcpuExit.Halt, machine.Run());
        VcpuStatistics statistics = machine.Vcpu.ReadStatistics()!;
        Assert.Equal(Writes, statistics.Exits!["IO"]);
        Assert.Equal(1ul, statistics.Exits["HLT"]);
        // Which counters there are is the host's KVM's own affair.
        Assert.True(statistics.Counters.Any(c => c.Key.StartsWith("kvm.", StringComparison.Ordinal) && c.Value > 0), string.Join(' ', statistics.Counters.Keys));
        Assert.True(statistics.KernelTime > TimeSpan.Zero && statistics.VmmTime > TimeSpan.Zero && statistics.GuestTime >= TimeSpan.Zero,
            $"guest {statistics.GuestTime}, kernel {statistics.KernelTime}, VMM {statistics.VmmTime}");
    }

    private static void CreateAndDrop(KvmBackend backend)
    {
        using var memory = new GuestMemory();
        using IPartition partition = backend.CreatePartition(Options());
        memory.Add(new MemorySlot("ram", 0, new HeapMemoryRegion(1 << 20)));
        memory.Attach(partition);
        using IVcpu vcpu = partition.CreateVcpu(0, new ScriptedVcpuHost());
    }

    private static PartitionOptions Options() => new()
    {
        VcpuCount = 1,
        Cpuid = new HardwareStrategy().CreateCpuidPolicy(1, new Dictionary<string, string>()),
        TscFrequency = 1_000_000_000,
        Log = NullLog.Instance,
    };

    /// <summary>KVM's own: the test runner opens and closes others meanwhile.</summary>
    private static int OpenFiles() =>
        Directory.EnumerateFileSystemEntries("/proc/self/fd").Count(f => new FileInfo(f).LinkTarget?.Contains("kvm", StringComparison.Ordinal) == true);

    private static int KvmMappings() => File.ReadLines("/proc/self/maps").Count(l => l.Contains("kvm-vcpu", StringComparison.Ordinal));
}
