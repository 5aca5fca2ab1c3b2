using VirtPS.Lockstep;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Full;

namespace VirtPS.Hardware.Tests;

/// <summary>What cannot pass under the emulated kvm-amd, whatever we do, and what QEMU's processor does by itself in its place.</summary>
internal static class EmulatedHost
{
    /// <summary>Beginnings of check names, where QEMU 7.2's processor differs from the architecture. It must do so alone too, in the same words.</summary>
    public static readonly (string Name, string Reason)[] Differs =
    [
        ("Exceptions: #GP(0): non-canonical LSTAR", "WRMSR takes any address"),
        ("Exceptions: #SS(0): non-canonical stack", "it raises #GP"),
        ("Exceptions: #GP: INT through a gate that is not there", "its error code has the gate's offset in place of its number"),
        ("Privilege: ring 3: INT n through a gate of ring 0", "its error code has the gate's offset in place of its number"),
        ("Interrupts: a pending #GP that cannot be delivered", "it forgets the first exception when that is injected"),
        ("Paging: #PF: reserved bit in an entry", "the error code lacks the present bit"),
        ("Privilege: the I/O permission bitmap", "it takes a guest's busy TSS, which every loaded one is, for none"),
        ("SingleStep: data breakpoint", "no debug registers in a guest"), ("SingleStep: execution breakpoint", "no debug registers in a guest"),
    ];

    /// <summary>The same difference, come to by another way: KVM injects the #GP anew after a nested page fault on its way.</summary>
    public static readonly (string Name, string ShownBy)[] DiffersToo = [("Exceptions: #DF(0) when #GP cannot be delivered", "Interrupts: a pending #GP that cannot be delivered")];

    /// <summary>KVM's doing; QEMU's processor passes.</summary>
    public static readonly (string Name, string Reason)[] Kvms = [("Exceptions: triple fault: Shutdown", "kvm-amd resets the processor before it reports a shutdown, so RIP is lost")];

    public static bool IsExpected(string check) => ConformanceTests.NotYet.Any(n => check.StartsWith(n.Name, StringComparison.Ordinal)) || ShownBy(check) is not null
        || Kvms.Any(n => check.StartsWith(n.Name, StringComparison.Ordinal));

    /// <summary>The check that shows a difference on QEMU's processor alone; null where there must be none.</summary>
    public static string? ShownBy(string check) =>
        DiffersToo.Where(n => check.StartsWith(n.Name, StringComparison.Ordinal)).Select(n => n.ShownBy).Concat(Differs.Where(n => check.StartsWith(n.Name, StringComparison.Ordinal)).Select(n => n.Name)).FirstOrDefault();

    /// <summary>What a check, given by its name's beginning, says on QEMU's processor alone; null when it passes.</summary>
    public static string? Alone(string check)
    {
        try
        {
            StrategyConformance.Checks.First(c => c.ToString().StartsWith(check, StringComparison.Ordinal)).Run(new BareQemu());
            return null;
        }
        catch (ConformanceException e)
        {
            return $"{nameof(ConformanceException)}: {e.Message}";
        }
    }

    /// <summary>How a guest ends otherwise on QEMU's processor alone than on the software engine.</summary>
    public static string? Alone(LockstepCase guest) => new LockstepSuite(new FullPlugin().Strategies.Single(), new BareQemu()).RunToEnd(guest);
}
