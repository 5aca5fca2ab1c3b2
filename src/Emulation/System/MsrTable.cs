using System.Collections.Frozen;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>What one MSR (or a run of them) does. A write that returns false is #GP(0); <see cref="Write"/> null means read-only.</summary>
internal sealed unsafe record MsrPolicy(string Name, Func<SoftVcpu, uint, ulong> Read, Func<SoftVcpu, uint, ulong, bool>? Write)
{
    /// <summary>A field of the state with a rule for what may be written.</summary>
    public static MsrPolicy Field(string name, Func<SoftVcpu, nint> field, Func<ulong, bool> valid) => new(
        name,
        (cpu, _) => *(ulong*)field(cpu),
        (cpu, _, value) =>
        {
            if (!valid(value))
                return false;
            *(ulong*)field(cpu) = value;
            return true;
        });

    /// <summary>A place in <see cref="VcpuState.OtherMsrs"/> with its power-on value.</summary>
    public static MsrPolicy Stored(string name, int index, ulong powerOn, Func<SoftVcpu, ulong, bool> valid) => new(
        name,
        (cpu, _) => cpu.S->OtherMsrs[index] ^ powerOn,
        (cpu, _, value) =>
        {
            if (!valid(cpu, value))
                return false;
            cpu.S->OtherMsrs[index] = value ^ powerOn;
            return true;
        });

    public static MsrPolicy Constant(string name, ulong value) => new(name, (_, _) => value, null);
}

/// <summary>
/// Every MSR that the model has, as one table to read. The local APIC's (IA32_APIC_BASE, TSC deadline, x2APIC) and whatever is not listed are asked of the machine, which
/// refuses what it does not know with #GP(0). SDM Vol. 4; AMD APM Vol. 2 appendix A; AMD PPR for the C001_xxxx ones.
/// </summary>
internal static unsafe class MsrTable
{
    /// <summary>Revision that the kernel compares with its list of flawed Zen 5 microcodes; past all of them.</summary>
    public const uint MicrocodeRevision = 0x0B00_21FF;

    // C001_xxxx numbers that only the AMD model has; values are kept, nothing else depends on them.
    private const uint NbCfg = 0xC001_001F, TopMem = 0xC001_001A, TopMem2 = 0xC001_001D, IntPending = 0xC001_0055, LsCfg = 0xC001_1020, DcCfg = 0xC001_1022,
        BuCfg2 = 0xC001_102A, CpuidFn7 = 0xC001_1002, CpuidFn1 = 0xC001_1004, CpuidExtended = 0xC001_1005, IoRangeFirst = 0xC001_0016;

    /// <summary>HWCR.TscFreqSel: the TSC counts at the P0 frequency. DE_CFG bit 1: LFENCE serialises.</summary>
    private const ulong HwCrPowerOn = 1ul << 24, DeCfgPowerOn = 1ul << 1;

    /// <summary>MTRRs as firmware leaves them: write-back, the legacy video window uncached, ROM write-protected, 3–4 GiB uncached.</summary>
    private const ulong MtrrDefTypePowerOn = 0xC06, WriteBack8 = 0x0606_0606_0606_0606, WriteProtect8 = 0x0505_0505_0505_0505;

    private static readonly FrozenDictionary<uint, MsrPolicy> s_policies = Build().ToFrozenDictionary();

    public static bool TryGet(uint msr, out MsrPolicy? policy) => s_policies.TryGetValue(msr, out policy);

    /// <summary>All of them, for tests and tools.</summary>
    public static IReadOnlyDictionary<uint, MsrPolicy> Policies => s_policies;

    private static Dictionary<uint, MsrPolicy> Build()
    {
        var t = new Dictionary<uint, MsrPolicy>
        {
            [Msr.Tsc] = new("IA32_TSC", (cpu, _) => cpu.GuestTsc, (cpu, _, v) => cpu.WriteTsc(v)),
            [Msr.TscAdjust] = new("IA32_TSC_ADJUST", (cpu, _) => cpu.S->TscAdjust, (cpu, _, v) => cpu.WriteTscAdjust(v)),
            [Msr.Efer] = new("IA32_EFER", (cpu, _) => cpu.S->Efer, (cpu, _, v) => cpu.WriteEfer(v)),
            [Msr.Star] = MsrPolicy.Field("IA32_STAR", cpu => (nint)(&cpu.S->Star), Any),
            [Msr.Lstar] = MsrPolicy.Field("IA32_LSTAR", cpu => (nint)(&cpu.S->Lstar), SoftVcpu.IsCanonical),
            [Msr.Cstar] = MsrPolicy.Field("IA32_CSTAR", cpu => (nint)(&cpu.S->Cstar), SoftVcpu.IsCanonical),
            [Msr.Sfmask] = MsrPolicy.Field("IA32_FMASK", cpu => (nint)(&cpu.S->Sfmask), Is32Bits),
            [Msr.FsBase] = MsrPolicy.Field("IA32_FS_BASE", cpu => (nint)(&cpu.S->FS.Base), SoftVcpu.IsCanonical),
            [Msr.GsBase] = MsrPolicy.Field("IA32_GS_BASE", cpu => (nint)(&cpu.S->GS.Base), SoftVcpu.IsCanonical),
            [Msr.KernelGsBase] = MsrPolicy.Field("IA32_KERNEL_GS_BASE", cpu => (nint)(&cpu.S->KernelGsBase), SoftVcpu.IsCanonical),
            [Msr.TscAux] = MsrPolicy.Field("IA32_TSC_AUX", cpu => (nint)(&cpu.S->TscAux), Is32Bits),
            [Msr.SysenterCs] = MsrPolicy.Field("IA32_SYSENTER_CS", cpu => (nint)(&cpu.S->SysenterCs), Is32Bits),
            [Msr.SysenterEsp] = MsrPolicy.Field("IA32_SYSENTER_ESP", cpu => (nint)(&cpu.S->SysenterEsp), SoftVcpu.IsCanonical),
            [Msr.SysenterEip] = MsrPolicy.Field("IA32_SYSENTER_EIP", cpu => (nint)(&cpu.S->SysenterEip), SoftVcpu.IsCanonical),
            [Msr.Pat] = MsrPolicy.Field("IA32_PAT", cpu => (nint)(&cpu.S->Pat), v => AllBytes(v, IsPatType)),
            [Msr.MiscEnable] = MsrPolicy.Field("IA32_MISC_ENABLE", cpu => (nint)(&cpu.S->MiscEnable), v => (v & ~0x4_00C5_1889ul) == 0),
            // Microcode: a revision to read, an update that is accepted and has no effect.
            [Msr.BiosSignId] = new("PATCH_LEVEL", (_, _) => MicrocodeRevision, (_, _, _) => true),
            // No banks: machine checks cannot happen, the architecture's registers are there.
            [Msr.McgCap] = MsrPolicy.Constant("IA32_MCG_CAP", 0),
            [Msr.McgStatus] = MsrPolicy.Stored("IA32_MCG_STATUS", 28, 0, (_, v) => (v & ~7ul) == 0),
            // BTF is kept without effect: single steps stay one instruction each.
            [Msr.DebugCtl] = MsrPolicy.Stored("IA32_DEBUGCTL", 42, 0, (_, v) => (v & ~0x3Ful) == 0),
        };
        AddMtrrs(t);
        AddAmd(t);
        return t;
    }

    private static void AddMtrrs(Dictionary<uint, MsrPolicy> t)
    {
        // Eight variable ranges, the fixed ranges, write-combining.
        t[Msr.MtrrCap] = MsrPolicy.Constant("IA32_MTRRCAP", 0x508);
        t[Msr.MtrrDefType] = MsrPolicy.Stored("IA32_MTRR_DEF_TYPE", 27, MtrrDefTypePowerOn, (_, v) => (v & ~0xCFFul) == 0 && IsMtrrType((byte)v));
        for (uint i = 0; i < 8; i++)
        {
            uint at = Msr.MtrrPhysBase0 + 2 * i;
            t[at] = MsrPolicy.Stored($"IA32_MTRR_PHYSBASE{i}", (int)(2 * i), i == 0 ? 0xC000_0000 : 0,
                (cpu, v) => (v & 0xF00) == 0 && IsMtrrType((byte)v) && v >> cpu.Partition.Options.PhysicalAddressBits == 0);
            t[at + 1] = i == 0 ? FirstMask() : MsrPolicy.Stored($"IA32_MTRR_PHYSMASK{i}", (int)(2 * i) + 1, 0, ValidMask);
        }

        t[Msr.MtrrFix64K] = Fixed("IA32_MTRR_FIX64K_00000", 16, WriteBack8);
        t[Msr.MtrrFix16K80000] = Fixed("IA32_MTRR_FIX16K_80000", 17, WriteBack8);
        t[Msr.MtrrFix16KA0000] = Fixed("IA32_MTRR_FIX16K_A0000", 18, 0);
        for (uint i = 0; i < 8; i++)
            t[Msr.MtrrFix4KC0000 + i] = Fixed($"IA32_MTRR_FIX4K_{0xC0000 + 0x8000 * i:X}", 19 + (int)i, WriteProtect8);
    }

    private static MsrPolicy Fixed(string name, int index, ulong powerOn) => MsrPolicy.Stored(name, index, powerOn, (_, v) => AllBytes(v, IsMtrrType));

    private static bool ValidMask(SoftVcpu cpu, ulong v) => (v & 0x7FF) == 0 && v >> cpu.Partition.Options.PhysicalAddressBits == 0;

    /// <summary>The first range's mask covers 1 GiB; its power-on value depends on the width of physical addresses.</summary>
    private static MsrPolicy FirstMask()
    {
        static ulong PowerOn(SoftVcpu cpu) => (((1ul << cpu.Partition.Options.PhysicalAddressBits) - 1) & ~0x3FFF_FFFFul) | 0x800;
        return new MsrPolicy("IA32_MTRR_PHYSMASK0", (cpu, _) => cpu.S->OtherMsrs[1] ^ PowerOn(cpu), (cpu, _, v) =>
        {
            if (!ValidMask(cpu, v))
                return false;
            cpu.S->OtherMsrs[1] = v ^ PowerOn(cpu);
            return true;
        });
    }

    private static void AddAmd(Dictionary<uint, MsrPolicy> t)
    {
        t[Msr.SysCfg] = MsrPolicy.Stored("SYSCFG", 29, 0, Any);
        t[Msr.HwCr] = MsrPolicy.Stored("HWCR", 30, HwCrPowerOn, Any);
        t[Msr.DeCfg] = MsrPolicy.Stored("DE_CFG", 31, DeCfgPowerOn, Any);
        t[LsCfg] = MsrPolicy.Stored("LS_CFG", 32, 0, Any);
        t[DcCfg] = MsrPolicy.Stored("DC_CFG", 33, 0, Any);
        t[BuCfg2] = MsrPolicy.Stored("BU_CFG2", 34, 0, Any);
        t[CpuidFn7] = MsrPolicy.Stored("CPUID_7_FEATURES", 35, 0, Any);
        t[CpuidFn1] = MsrPolicy.Stored("CPUID_FEATURES", 36, 0, Any);
        t[CpuidExtended] = MsrPolicy.Stored("CPUID_EXT_FEATURES", 37, 0, Any);
        t[TopMem] = MsrPolicy.Stored("TOP_MEM", 38, 0, Any);
        t[TopMem2] = MsrPolicy.Stored("TOP_MEM2", 39, 0, Any);
        t[IntPending] = MsrPolicy.Stored("INT_PENDING_MSG", 40, 0, Any);
        t[NbCfg] = MsrPolicy.Stored("NB_CFG1", 41, 0, Any);
        for (uint i = 0; i < 4; i++)
            t[IoRangeFirst + i] = MsrPolicy.Stored($"IORR_{(i % 2 == 0 ? "BASE" : "MASK")}{i / 2}", 43 + (int)i, 0, Any);
    }

    private static bool Any(ulong value) => true;

    private static bool Any(SoftVcpu cpu, ulong value) => true;

    private static bool Is32Bits(ulong value) => value >> 32 == 0;

    private static bool IsMtrrType(byte type) => type is 0 or 1 or 4 or 5 or 6;

    private static bool IsPatType(byte type) => type is 0 or 1 or 4 or 5 or 6 or 7;

    private static bool AllBytes(ulong value, Func<byte, bool> test)
    {
        for (int i = 0; i < 64; i += 8)
        {
            if (!test((byte)(value >> i)))
                return false;
        }

        return true;
    }
}
