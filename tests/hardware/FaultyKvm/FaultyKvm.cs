using System.Runtime.InteropServices;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Hardware;

[assembly: Plugin(typeof(VirtPS.FaultyKvm.FaultyPlugin))]

namespace VirtPS.FaultyKvm;

/// <summary>Brings the strategy <c>FaultyKvm</c>, so that a whole worker and a user's shell can be watched while KVM fails under a VM in ways that no kernel can be made to.</summary>
public sealed class FaultyPlugin : IPlugin
{
    public IEnumerable<IStrategy> Strategies => [new FaultyStrategy()];
}

/// <summary>Hardware on any KVM, also a paravirtual one: the tests' guests need real mode only.</summary>
internal sealed unsafe class FaultyStrategy : IStrategy
{
    private const int EnteredWell = 1000, Enodev = 19, Eperm = 1;

    private readonly HardwareStrategy _hardware = new();

    public StrategyInfo Info => _hardware.Info with { Name = "FaultyKvm", Description = "For tests: Hardware, on any KVM, whose entry into the guest fails after a while.", Preference = -100 };

    public IGuestInterface GuestInterface => _hardware.GuestInterface;

    public HostSupport Probe() => new(true, "For tests.");

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) =>
        new HardwareStrategy(Entry(options.GetValueOrDefault("fault", "none"))).CreateBackend(Rest(options), log);

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => _hardware.CreateCpuidPolicy(vcpuCount, Rest(options));

    private static Dictionary<string, string> Rest(IReadOnlyDictionary<string, string> options)
    {
        var rest = options.Where(o => !o.Key.Equals("fault", StringComparison.OrdinalIgnoreCase)).ToDictionary(o => o.Key, o => o.Value);
        if (options.GetValueOrDefault("fault") == "device")
            rest["device"] = "/dev/null";
        return rest;
    }

    private static KvmEntry? Entry(string fault)
    {
        if (fault is "none" or "device")
            return null;
        int entries = 0;
        return (vcpu, run) =>
        {
            if (Interlocked.Increment(ref entries) <= EnteredWell)
                return LinuxCalls.Ioctl(vcpu, Kvm.Run, (nuint)0);
            switch (fault)
            {
                case "internal":
                    (run->ExitReason, run->InternalSubError) = (Kvm.ExitInternalError, 3);
                    return 0;
                case "entry":
                    (run->ExitReason, run->HardwareReason) = (Kvm.ExitFailEntry, 0x8000_0021);
                    return 0;
                case "unknown":
                    run->ExitReason = 999;
                    return 0;
                default:
                    Marshal.SetLastPInvokeError(fault == "gone" ? Enodev : Eperm);
                    return -1;
            }
        };
    }
}
