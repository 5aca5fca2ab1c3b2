namespace VirtPS.Lockstep;

/// <summary>Where the emulated host differs from the architecture. A test runs each on QEMU's processor alone, with no KVM in between, and wants to see the same difference there.</summary>
public static class KnownDifferences
{
    private static readonly string[] s_emulatedProcessor =
    [
        // Checks that it does without.
        "CR0 refused: upper half", "CR3 refused: reserved bits", "MOV SS, null with RPL 3", "LGDT refused", "LTR refused: null", "IRETQ refused: non-canonical RIP", "#AC in ring 3",
        // The limit's bits in LAR's result are undefined; SS becomes null on an IST stack although the ring stays.
        "LAR, LSL", "interrupt on IST", "#PF while pushing",
        // Undefined opcodes to it; an upper half that is cleared; CF the wrong way round; a displacement counted from before the immediate; upper halves taken into a carry; another index in place of register 4;
        // x87's registers kept as they are loaded.
        "TEST by F", "NOP by 0F 18", "BSR of 0", "BSF of 0", "BLSI", "SHLD by", "SHRD by", "ADCX of 32", "ADOX of 32", "gather by index register 4", "FLDCW: reserved", "FXRSTOR: FCW's", "MMX: the exponent",
    ];

    /// <summary>The cases of <see cref="PrivilegedCases.All"/> that cannot agree there.</summary>
    public static IReadOnlyList<LockstepCase> EmulatedProcessor { get; } = [.. PrivilegedCases.All.Where(c => s_emulatedProcessor.Any(n => c.Name.StartsWith(n, StringComparison.Ordinal)))];

    /// <summary>Of these, the one where it takes for the index what just stands elsewhere in its own state: that it differs can be shown, not that it does so in the same words.</summary>
    public static bool IsArbitraryThere(LockstepCase guest) => guest.Name == "gather by index register 4";

    /// <summary>Of these, those that end there in a #UD of its own.</summary>
    public static bool IsUndefinedThere(LockstepCase guest) => guest.Name.StartsWith("TEST by", StringComparison.Ordinal) || guest.Name.StartsWith("NOP by", StringComparison.Ordinal);

    /// <summary>
    /// Flags that it keeps. Our engine lets the processor under it do this instruction, so that under the emulated host both sides are QEMU's: they agree in the case, and differ where flags before were undefined.
    /// Only on QEMU's processor alone, beside the engine on the host's, does the case show it.
    /// </summary>
    public static LockstepCase Borrowed { get; } = PrivilegedCases.All.Single(c => c.Name == "FCOMI clears OF, SF and AF");

    /// <summary>One for RFLAGS.RF, which it never stores in a fault's frame (SDM Vol. 3A §6.8.3 wants 1).</summary>
    public static LockstepCase ResumeFlag { get; } = PrivilegedCases.All.Single(c => c.Name == "#DE");

    /// <summary>KVM's instruction emulator, which MOV to CR4 comes to where the processor has no decode assists, drops the upper half.</summary>
    public static LockstepCase KvmEmulator { get; } = PrivilegedCases.All.Single(c => c.Name == "CR4 refused: upper half");

    /// <summary>XSETBV's intercept does not fire on QEMU's processor, which a test shows there with no KVM. KVM has XCR0 from that intercept alone, so it tells another than the guest has; all else agrees.</summary>
    public static LockstepCase MissedIntercept { get; } = PrivilegedCases.All.Single(c => c.Name == "XSETBV");

    /// <summary>All that a stepped comparison under the emulated kvm-amd leaves out.</summary>
    public static IReadOnlyList<LockstepCase> LeftOut { get; } = [.. EmulatedProcessor, KvmEmulator, MissedIntercept];
}
