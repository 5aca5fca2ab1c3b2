using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// The strategy conformance suite under KVM, check by check. What a paravirtual KVM's processor cannot do, and what this first backend leaves to KVM,
/// is skipped by name with the reason: everything else must hold. With the interrupt controllers of the suite's host and with KVM's; its guests are not told of KVM.
/// </summary>
[Collection("/dev/kvm")]
public sealed class ConformanceTests
{
    private const string Emulation = "the paravirtual KVM of this host emulates ring 0 and lacks this instruction or its effects";
    private const string Ring3 = "the paravirtual KVM of this host does not deliver ring-3 gates and SYSCALL as the processor does";
    private const string Events = "the paravirtual KVM of this host does not report NMIs, breakpoints or windows at this boundary";

    /// <summary>Beginnings of check names that a paravirtual KVM cannot pass.</summary>
    private static readonly (string Name, string Reason)[] s_notOnParavirtualKvm =
    [
        ("Exceptions: #GP: INT through a gate that is not th", Emulation), ("Exceptions: #BP", Emulation), ("Exceptions: INT n pushes no error code", Emulation),
        ("Paging: an access over a page end faults", Emulation), ("Privilege: SMAP", Emulation), ("Privilege: ring 3: INT n through a gate of ring 0", Ring3),
        ("Privilege: ring 3 to ring 0 by a gate", Ring3), ("Privilege: SYSCALL and SYSRET", Ring3), ("Interrupts: window opens behind", Events),
        ("Interrupts: MOV SS holds the window off", Events), ("Interrupts: NMI is taken", Events), ("SingleStep: data breakpoint", Events),
        ("Processor: RDTSC", "RDTSC in ring 0 gives the host's counter under the paravirtual KVM of this host"),
        ("Processor: a hypercall reaches the machine", "VMCALL in ring 0 spins for ever under the paravirtual KVM of this host"),
    ];

    /// <summary>Beginnings of check names for what this backend does not do yet, on any KVM.</summary>
    internal static readonly (string Name, string Reason)[] NotYet =
    [
        ("Processor: a hypercall reaches the machine", "KVM answers hypercalls itself; it hands on Xen's alone, where it was built for that (CONFIG_KVM_XEN), which Debian's is not"),
    ];

    /// <summary>On top of that with KVM's controllers.</summary>
    private static readonly (string Name, string Reason)[] s_notOnParavirtualKvmWithItsControllers = [("Interrupts: a message with IF clear", Events), ("Interrupts: CR8 holds a message off", Events)];

    public static TheoryData<string> Names => [.. StrategyConformance.Checks.Select(c => c.ToString())];

    public static TheoryData<string> NamesWithKvmsControllers => [.. StrategyConformance.ChecksWithPartitionControllers.Select(c => c.ToString())];

    [Theory]
    [MemberData(nameof(Names))]
    public void Hardware_conforms(string name)
    {
        using KvmDevice kvm = RequireKvm(name, KvmDevice.IsParavirtual ? [.. NotYet, .. s_notOnParavirtualKvm] : NotYet);
        StrategyConformance.Checks.Single(c => c.ToString() == name).Run(WithOptions("software"));
    }

    /// <summary>KVM's interrupt controllers.</summary>
    [Theory]
    [MemberData(nameof(NamesWithKvmsControllers))]
    public void Hardware_conforms_with_kvms_controllers(string name)
    {
        using KvmDevice kvm = RequireKvm(name, KvmDevice.IsParavirtual ? [.. NotYet, .. s_notOnParavirtualKvm, .. s_notOnParavirtualKvmWithItsControllers] : NotYet);
        Assert.SkipUnless(KvmInterruptController.IsOffered(kvm), "This KVM has no interrupt controllers of its own.");
        StrategyConformance.ChecksWithPartitionControllers.Single(c => c.ToString() == name).Run(WithOptions("kernel"), partitionControllers: true);
    }

    private static KvmDevice RequireKvm(string name, (string Name, string Reason)[] leftOut)
    {
        KvmDevice? kvm = KvmDevice.TryOpen("/dev/kvm", out HostSupport support);
        Assert.SkipWhen(kvm is null, support.Reason);
        foreach ((string start, string reason) in leftOut)
        {
            if (!name.StartsWith(start, StringComparison.Ordinal))
                continue;
            kvm!.Dispose();
            Assert.Skip(reason);
        }

        return kvm!;
    }

    private static StrategyWithOptions WithOptions(string irqchip) => new(new HardwareStrategy(), new Dictionary<string, string> { ["irqchip"] = irqchip, ["enlightenment"] = "None" });
}
