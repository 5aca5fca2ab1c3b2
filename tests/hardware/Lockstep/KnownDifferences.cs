namespace VirtPS.Lockstep;

/// <summary>Where the emulated host differs from the architecture. A test runs each on QEMU's processor alone, with no KVM in between, and wants to see the same difference there.</summary>
public static class KnownDifferences
{
    private static readonly string[] s_emulatedProcessor =
    [
        // Checks that it does without.
        "CR0 refused: upper half", "CR3 refused: reserved bits", "MOV SS, null with RPL 3", "LGDT refused", "LTR refused: null", "IRETQ refused: non-canonical RIP", "#AC in ring 3",
        // XSETBV does not leave the guest, so that KVM keeps another XCR0; the limit's bits in LAR's result are undefined; SS becomes null on an IST stack although the ring stays.
        "XSETBV", "LAR, LSL", "interrupt on IST", "#PF while pushing",
        // An undefined opcode to it; an upper half that is cleared; CF the wrong way round.
        "TEST by F", "BSR of 0", "BLSI",
    ];

    /// <summary>The cases of <see cref="PrivilegedCases.All"/> that cannot agree there.</summary>
    public static IReadOnlyList<LockstepCase> EmulatedProcessor { get; } = [.. PrivilegedCases.All.Where(c => s_emulatedProcessor.Any(n => c.Name.StartsWith(n, StringComparison.Ordinal)))];

    /// <summary>One for RFLAGS.RF, which it never stores in a fault's frame (SDM Vol. 3A §6.8.3 wants 1).</summary>
    public static LockstepCase ResumeFlag { get; } = PrivilegedCases.All.Single(c => c.Name == "#DE");

    /// <summary>KVM's instruction emulator, which MOV to CR4 comes to where the processor has no decode assists, drops the upper half.</summary>
    public static LockstepCase KvmEmulator { get; } = PrivilegedCases.All.Single(c => c.Name == "CR4 refused: upper half");

    /// <summary>All that a stepped comparison under the emulated kvm-amd leaves out.</summary>
    public static IReadOnlyList<LockstepCase> LeftOut { get; } = [.. EmulatedProcessor, KvmEmulator];
}
