using VirtPS.Lockstep;
using VirtPS.Sdk.Plugins;
using VirtPS.Strategy.Full;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// The software engine beside this host's own KVM, instruction by instruction. Under a paravirtual one ring 0 is emulated by KVM's instruction emulator: an independent implementation too, but
/// what it cannot do is left out by name. The processor itself is the judge in <see cref="NestedKvmTests"/>.
/// </summary>
[Collection("/dev/kvm")]
public sealed class LockstepTests
{
    /// <summary>Ring 3 runs elsewhere there, the emulator lacks instructions, and it does without some checks.</summary>
    private static readonly string[] s_notOnParavirtualKvm =
    [
        "CR0 refused: upper half", "CR4 refused: upper half", "XSETBV", "LAR, LSL", "SWAPGS", "IRETQ", "far return to comp", "call gate", "SYSCALL", "SYSRET", "interrupt on IST", "PAT refused",
        "RDMSR in ring 3", "in ring 3", "#BP", "INT n from", "#NM with TS for SSE", "#UD with EM", "#PF: a supervisor page", "#AC", "a page fault, mended", "SMAP", "POPFQ, STI", "CMPXCHG8B", "ENTER", "BLSI",
        "ADCX of", "ADOX of", "64-bit ADCX", "gather by", "FLDCW", "FXRSTOR", "FCOMI", "MMX",
    ];

    [Fact]
    public void Privileged_instructions_leave_the_same_state()
    {
        using (KvmDevice? probe = KvmDevice.TryOpen("/dev/kvm", out HostSupport support))
            Assert.SkipWhen(probe is null, support.Reason);
        LockstepResult result = new LockstepSuite(new FullPlugin().Strategies.Single(), new HardwareStrategy()).RunPrivileged(KvmDevice.IsParavirtual ? s_notOnParavirtualKvm : []);
        TestContext.Current.TestOutputHelper?.WriteLine($"{result.Cases} guests, {result.Steps} instructions");
        Assert.True(result.Differences.Count == 0, string.Join('\n', result.Differences));
    }
}
