namespace VirtPS.X86;

/// <summary>Model-specific register numbers (SDM Vol. 4; AMD APM Vol. 2 appendix A).</summary>
public static class Msr
{
    public const uint Tsc = 0x10, PlatformId = 0x17, ApicBase = 0x1B, FeatureControl = 0x3A, TscAdjust = 0x3B, SpecCtrl = 0x48, PredCmd = 0x49,
        BiosUpdateTrigger = 0x79, BiosSignId = 0x8B, MtrrCap = 0xFE, ArchCapabilities = 0x10A, SysenterCs = 0x174, SysenterEsp = 0x175,
        SysenterEip = 0x176, McgCap = 0x179, McgStatus = 0x17A, McgCtl = 0x17B, MiscEnable = 0x1A0, DebugCtl = 0x1D9, MtrrPhysBase0 = 0x200,
        MtrrPhysMask7 = 0x20F, MtrrFix64K = 0x250, MtrrFix16K80000 = 0x258, MtrrFix16KA0000 = 0x259, MtrrFix4KC0000 = 0x268,
        MtrrFix4KF8000 = 0x26F, Pat = 0x277, MtrrDefType = 0x2FF, McBank0Ctl = 0x400, TscDeadline = 0x6E0, X2ApicFirst = 0x800,
        X2ApicLast = 0x8FF, Xss = 0xDA0, Efer = 0xC0000080, Star = 0xC0000081, Lstar = 0xC0000082, Cstar = 0xC0000083, Sfmask = 0xC0000084,
        FsBase = 0xC0000100, GsBase = 0xC0000101, KernelGsBase = 0xC0000102, TscAux = 0xC0000103, SysCfg = 0xC0010010, HwCr = 0xC0010015,
        DeCfg = 0xC0011029;

    /// <summary>IA32_APIC_BASE bits (SDM Vol. 3A §10.4.4).</summary>
    public const ulong ApicBaseBsp = 1 << 8, ApicBaseX2Apic = 1 << 10, ApicBaseEnable = 1 << 11;
}
