using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;
using VirtPS.Strategy.Hardware;

[assembly: Plugin(typeof(HardwarePlugin))]

namespace VirtPS.Strategy.Hardware;

/// <summary>Brings the strategy <c>Hardware</c>.</summary>
public sealed class HardwarePlugin : IPlugin
{
    public IEnumerable<IStrategy> Strategies => [new HardwareStrategy()];
}

/// <summary>Guest code on the processor itself, in non-root mode, through KVM.</summary>
/// <param name="entry">See <see cref="KvmDevice.Entry"/>.</param>
internal sealed class HardwareStrategy(KvmEntry? entry = null) : IStrategy
{
    public StrategyInfo Info { get; } = new()
    {
        Name = "Hardware",
        Description = "Hardware-assisted: guest code runs on the processor itself in non-root mode, through Linux KVM.",
        RingFidelity = RingFidelity.AtExit,
        Preference = 100,
        RingModel =
        [
            new RingModelRow(3, "User programs", "Ring 3, non-root", "Ring 3 of the processor, non-root mode"),
            new RingModelRow(2, "(not used by today's kernels)", "Ring 2, non-root", "Ring 2 of the processor, non-root mode"),
            new RingModelRow(1, "(not used by today's kernels)", "Ring 1, non-root", "Ring 1 of the processor, non-root mode"),
            new RingModelRow(0, "Guest kernel", "Ring 0, non-root", "Ring 0 of the processor, non-root mode"),
            new RingModelRow(-1, "VMM", "Ring -1: root mode", "KVM in ring 0, the worker in ring 3, root mode"),
        ],
    };

    public IGuestInterface GuestInterface { get; } = new BarePc();

    public HostSupport Probe()
    {
        using KvmDevice? kvm = KvmDevice.TryOpen(HardwareOptions.DefaultDevice, out HostSupport support);
        if (kvm is null)
            return support;
        if (kvm.Check(Kvm.CapUserMemory) == 0 || kvm.Check(Kvm.CapImmediateExit) == 0 || kvm.Check(Kvm.CapVcpuEvents) == 0)
            return new HostSupport(false, "This KVM lacks user memory, immediate exit or vCPU events.", "Use a Linux kernel of version 4.13 or later.");
        return KvmDevice.IsParavirtual
            ? new HostSupport(false, "This host's KVM is a paravirtual variant (kvm_pvm), which can't run unmodified kernels.", "Use -Strategy Full, or a host with SVM or VMX.")
            : support;
    }

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => new KvmBackend(HardwareOptions.Read(options), entry);

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options)
    {
        var read = HardwareOptions.Read(options);
        using KvmDevice kvm = KvmDevice.TryOpen(read.Device, out HostSupport support)
            ?? throw new VirtException("StrategyUnavailable", support.Reason, support.RecommendedAction);
        GuestFeatures features = read.UsesKernelIrqchip(kvm)
            ? GuestFeatures.X2Apic | GuestFeatures.OwnApic | (kvm.Check(Kvm.CapTscDeadline) != 0 ? GuestFeatures.TscDeadline : 0)
            : kvm.SendsMsrs ? GuestFeatures.X2Apic : GuestFeatures.None;
        return KvmCpuid.ForGuest(KvmCpuid.Supported(kvm), vcpuCount, read.Enlightened ? features | GuestFeatures.Kvm : features);
    }
}

internal sealed class KvmBackend : ICpuBackend
{
    private readonly KvmDevice _device;

    public KvmBackend(HardwareOptions options, KvmEntry? entry = null)
    {
        _device = KvmDevice.TryOpen(options.Device, out HostSupport support, entry) ?? throw new VirtException("StrategyUnavailable", support.Reason, support.RecommendedAction, options.Device);
        try
        {
            Capabilities = new BackendCapabilities
            {
                MaxVcpus = Math.Max(1, _device.Check(Kvm.CapMaxVcpus)),
                AnswersKvmInterface = true,
                HasInterruptController = options.UsesKernelIrqchip(_device),
                RingFidelity = RingFidelity.AtExit,
                Execution = ExecutionKind.NonRoot,
                HostRing = null,
                TscFrequency = _device.FixedTscFrequency(),
            };
        }
        catch
        {
            _device.Dispose();
            throw;
        }
    }

    public string Tier => "KVM";

    public BackendCapabilities Capabilities { get; }

    public IPartition CreatePartition(PartitionOptions options) => new KvmPartition(_device, options, Capabilities.HasInterruptController);

    public void Dispose() => _device.Dispose();
}

/// <summary>A bare PC: no hypercalls.</summary>
internal sealed class BarePc : IGuestInterface
{
    public string Name => "Bare PC";

    public bool IsPc => true;

    public unsafe bool Hypercall(IVcpu vcpu, VcpuState* state) => false;

    public unsafe int GuestRing(VcpuState* state) => state->Cpl;

    public string ClassicalRing(int guestRing) => $"Ring {guestRing}, non-root";
}
