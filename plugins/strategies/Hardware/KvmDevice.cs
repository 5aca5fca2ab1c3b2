using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Hardware;

/// <summary>KVM_RUN on a vCPU's file descriptor; the result and the error as the ioctl gives them.</summary>
internal unsafe delegate int KvmEntry(int vcpu, KvmRun* run);

/// <summary>An open <c>/dev/kvm</c>.</summary>
internal sealed unsafe class KvmDevice : IDisposable
{
    private const int MaxMsrs = 1024;

    private readonly Lazy<IReadOnlySet<uint>> _keptMsrs;

    private KvmDevice(int fd)
    {
        Fd = fd;
        _keptMsrs = new(ReadMsrList);
    }

    public int Fd { get; }

    /// <summary>Takes the place of the KVM_RUN ioctl, so that tests can show what follows when it fails in ways that no kernel can be made to; null otherwise.</summary>
    public KvmEntry? Entry { get; init; }

    /// <summary>The MSRs that this KVM keeps for a guest (KVM_GET_MSR_INDEX_LIST).</summary>
    public IReadOnlySet<uint> KeptMsrs => _keptMsrs.Value;

    /// <summary>Opens and checks the API version; null with the reason when it cannot be used.</summary>
    public static KvmDevice? TryOpen(string path, out HostSupport support, KvmEntry? entry = null)
    {
        if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64)
        {
            support = new HostSupport(false, "KVM for x86-64 guests needs Linux on x86-64.");
            return null;
        }

        int fd = LinuxCalls.Open(path, LinuxCalls.ReadWrite | LinuxCalls.CloseOnExec);
        if (fd < 0)
        {
            support = WhyNot(path, Marshal.GetLastPInvokeError(), File.ReadAllText("/proc/cpuinfo"));
            return null;
        }

        int version = LinuxCalls.Ioctl(fd, Kvm.GetApiVersion, (nuint)0);
        if (version != Kvm.ApiVersion)
        {
            _ = LinuxCalls.Close(fd);
            support = new HostSupport(false, version < 0 ? $"{path} does not answer as KVM: {LinuxCalls.ErrorText()}." : $"{path} speaks KVM API {version}; {Kvm.ApiVersion} is needed.");
            return null;
        }

        support = new HostSupport(true, $"{path} can be used.");
        return new KvmDevice(fd) { Entry = entry };
    }

    /// <summary>True when the kernel module behind the device cannot run unmodified kernels in ring 0 at speed, or at all.</summary>
    public static bool IsParavirtual => Directory.Exists("/sys/module/kvm_pvm");

    public int Check(int capability) => Math.Max(0, LinuxCalls.Ioctl(Fd, Kvm.CheckExtension, (nuint)capability));

    /// <summary>MSRs that KVM does not have can come to us.</summary>
    public bool SendsMsrs => Check(Kvm.CapUserSpaceMsr) != 0 && Check(Kvm.CapMsrFilter) != 0;

    private HashSet<uint> ReadMsrList()
    {
        uint* list = stackalloc uint[1 + MaxMsrs];
        list[0] = MaxMsrs;
        Must(LinuxCalls.Ioctl(Fd, Kvm.GetMsrIndexList, list), "the list of its model-specific registers");
        return [.. new ReadOnlySpan<uint>(list + 1, (int)list[0])];
    }

    /// <summary>The only TSC frequency in Hz that guests can have here; null when the processor scales it to any.</summary>
    public ulong? FixedTscFrequency()
    {
        if (Check(Kvm.CapTscControl) != 0)
            return null;
        int vm = Must(LinuxCalls.Ioctl(Fd, Kvm.CreateVm, (nuint)0), "a new virtual machine"), vcpu = -1;
        try
        {
            if (Check(Kvm.CapVmTscControl) == 0)
                vcpu = Must(LinuxCalls.Ioctl(vm, Kvm.CreateVcpu, (nuint)0), "a virtual processor");
            int khz = LinuxCalls.Ioctl(vcpu >= 0 ? vcpu : vm, Kvm.GetTscKhz, (nuint)0);
            return khz > 0 ? (ulong)khz * 1000 : null;
        }
        finally
        {
            if (vcpu >= 0)
                _ = LinuxCalls.Close(vcpu);
            _ = LinuxCalls.Close(vm);
        }
    }

    /// <param name="path">The device.</param>
    /// <param name="error">errno of open(2).</param>
    /// <param name="cpu">/proc/cpuinfo.</param>
    internal static HostSupport WhyNot(string path, int error, string cpu) => error switch
    {
        LinuxCalls.ENOENT when cpu.Contains(" svm", StringComparison.Ordinal) || cpu.Contains(" vmx", StringComparison.Ordinal) =>
            new HostSupport(false, $"{path} does not exist, although the processor has virtualization.", "Load the module: modprobe kvm-amd, or modprobe kvm-intel."),
        LinuxCalls.ENOENT => new HostSupport(false, $"{path} does not exist and the processor shows neither SVM nor VMX.", "Switch virtualization on in the firmware; in a virtual machine, switch nested virtualization on at its host."),
        LinuxCalls.EACCES or LinuxCalls.EPERM => NotPermitted(path),
        LinuxCalls.ENODEV => new HostSupport(false, $"{path} exists but no KVM module serves it.", "Load the module: modprobe kvm-amd, or modprobe kvm-intel."),
        _ => new HostSupport(false, $"{path} cannot be opened: {Marshal.GetPInvokeErrorMessage(error)}."),
    };

    /// <summary>Which group opens it, if any does.</summary>
    private static HostSupport NotPermitted(string path)
    {
        const int GroupReadWrite = 0b110_000;
        string user = Environment.UserName;
        if (LinuxCalls.OwnerOf(path) is not (uint owner, uint group, int mode))
            return new HostSupport(false, $"No permission to open {path} for user '{user}'.", $"Add the user to the group that owns it, usually kvm: sudo usermod -aG kvm {user}, then log in again.");
        string name = NameOf("/etc/group", group), rights = Convert.ToString(mode, 8), belongs = $"it belongs to {NameOf("/etc/passwd", owner)}, group {name}, mode {rights}";
        return (mode & GroupReadWrite) == GroupReadWrite && group != 0
            ? new HostSupport(false, $"No permission to open {path} for user '{user}': {belongs}.", $"Add the user to the group {name}: sudo usermod -aG {name} {user}, then log in again.")
            : new HostSupport(false, $"No permission to open {path} for user '{user}': {belongs}, so no group opens it to others.",
                $"Give it to the group kvm: sudo chown root:kvm {path} && sudo chmod 660 {path}; then sudo usermod -aG kvm {user}, and log in again.");
    }

    /// <summary>The name of a user or group number, by passwd(5) or group(5); the number itself where it has none.</summary>
    private static string NameOf(string file, uint number)
    {
        string wanted = number.ToString(System.Globalization.CultureInfo.InvariantCulture);
        return File.Exists(file) ? File.ReadLines(file).Select(l => l.Split(':')).FirstOrDefault(f => f.Length > 2 && f[2] == wanted)?[0] ?? wanted : wanted;
    }

    /// <summary>An ioctl that must succeed.</summary>
    public static int Must(int result, string what) =>
        result >= 0 ? result : throw new VirtException("StrategyUnavailable", $"KVM refused {what}: {LinuxCalls.ErrorText()}.", "Test-VirtHost says what this host can run.");

    public void Dispose() => _ = LinuxCalls.Close(Fd);
}
