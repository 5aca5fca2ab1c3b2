namespace VirtPS.X86;

/// <summary>General-purpose register numbers as instructions encode them (SDM Vol. 2A §2.1.5, table 2-2).</summary>
public enum Gpr : byte
{
    Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
}

/// <summary>Segment register numbers as instructions encode them; the two system segments follow.</summary>
public enum SegmentName : byte
{
    ES, CS, SS, DS, FS, GS, TR, LDTR,
}

/// <summary>RFLAGS bits (SDM Vol. 1 §3.4.3).</summary>
public static class Rflags
{
    public const ulong CF = 1ul << 0, Fixed1 = 1ul << 1, PF = 1ul << 2, AF = 1ul << 4, ZF = 1ul << 6, SF = 1ul << 7, TF = 1ul << 8,
        IF = 1ul << 9, DF = 1ul << 10, OF = 1ul << 11, NT = 1ul << 14, RF = 1ul << 16, VM = 1ul << 17, AC = 1ul << 18,
        VIF = 1ul << 19, VIP = 1ul << 20, ID = 1ul << 21;

    public const int IoplShift = 12;
    public const ulong IoplMask = 3ul << IoplShift;

    /// <summary>The six arithmetic status flags.</summary>
    public const ulong Status = CF | PF | AF | ZF | SF | OF;

    /// <summary>Every flag a processor of the modelled generation implements.</summary>
    public const ulong Implemented = Status | TF | IF | DF | IoplMask | NT | RF | VM | AC | VIF | VIP | ID;
}

/// <summary>CR0 bits (SDM Vol. 3A §2.5).</summary>
public static class Cr0
{
    public const ulong PE = 1ul << 0, MP = 1ul << 1, EM = 1ul << 2, TS = 1ul << 3, ET = 1ul << 4, NE = 1ul << 5, WP = 1ul << 16,
        AM = 1ul << 18, NW = 1ul << 29, CD = 1ul << 30, PG = 1ul << 31;
}

/// <summary>CR4 bits (SDM Vol. 3A §2.5).</summary>
public static class Cr4
{
    public const ulong VME = 1ul << 0, PVI = 1ul << 1, TSD = 1ul << 2, DE = 1ul << 3, PSE = 1ul << 4, PAE = 1ul << 5, MCE = 1ul << 6,
        PGE = 1ul << 7, PCE = 1ul << 8, OSFXSR = 1ul << 9, OSXMMEXCPT = 1ul << 10, UMIP = 1ul << 11, LA57 = 1ul << 12,
        VMXE = 1ul << 13, SMXE = 1ul << 14, FSGSBASE = 1ul << 16, PCIDE = 1ul << 17, OSXSAVE = 1ul << 18, SMEP = 1ul << 20,
        SMAP = 1ul << 21, PKE = 1ul << 22;
}

/// <summary>IA32_EFER bits (SDM Vol. 3A §2.2.1; AMD APM Vol. 2 §3.1.7).</summary>
public static class Efer
{
    public const ulong SCE = 1ul << 0, LME = 1ul << 8, LMA = 1ul << 10, NXE = 1ul << 11, SVME = 1ul << 12, FFXSR = 1ul << 14;
}

/// <summary>XCR0 state-component bits (SDM Vol. 1 §13.1).</summary>
public static class Xcr0
{
    public const ulong X87 = 1, Sse = 2, Avx = 4, Opmask = 0x20, ZmmHi256 = 0x40, Hi16Zmm = 0x80;

    /// <summary>The three components of AVX-512.</summary>
    public const ulong Avx512 = Opmask | ZmmHi256 | Hi16Zmm;

    /// <summary>
    /// Whether XSETBV takes the value (SDM Vol. 1 §13.3): x87 always, AVX only with SSE, the components of AVX-512 all or none and only with AVX, and nothing that CPUID.0Dh does not offer.
    /// </summary>
    public static bool IsValid(ulong value, ulong offered)
    {
        if ((value & X87) == 0 || (value & ~offered) != 0)
            return false;
        ulong needed = (value & Avx512) != 0 ? Avx512 | Avx | Sse : (value & Avx) != 0 ? Avx | Sse : 0;
        return (value & needed) == needed;
    }
}

/// <summary>Page-table entry bits (SDM Vol. 3A §4.5).</summary>
public static class PageBits
{
    public const ulong P = 1ul << 0, RW = 1ul << 1, US = 1ul << 2, PWT = 1ul << 3, PCD = 1ul << 4, A = 1ul << 5, D = 1ul << 6,
        PS = 1ul << 7, G = 1ul << 8, NX = 1ul << 63;
    public const ulong AddressMask = 0x000F_FFFF_FFFF_F000;
    public const int PageShift = 12;
    public const int PageSize = 1 << PageShift;
}

/// <summary>Page-fault error-code bits (SDM Vol. 3A §4.7).</summary>
public static class PageFaultError
{
    public const uint P = 1, W = 2, U = 4, Rsvd = 8, I = 16;
}

/// <summary>Exception vectors (SDM Vol. 3A table 6-1).</summary>
public static class Vector
{
    public const int DE = 0, DB = 1, NMI = 2, BP = 3, OF = 4, BR = 5, UD = 6, NM = 7, DF = 8, TS = 10, NP = 11, SS = 12, GP = 13,
        PF = 14, MF = 16, AC = 17, MC = 18, XM = 19, CP = 21;

    /// <summary>The mnemonic (<c>#GP</c>) of an exception vector, or <c>null</c> for any other vector.</summary>
    public static string? Mnemonic(int vector) => vector switch
    {
        DE => "#DE", DB => "#DB", NMI => "NMI", BP => "#BP", OF => "#OF", BR => "#BR", UD => "#UD", NM => "#NM", DF => "#DF", TS => "#TS",
        NP => "#NP", SS => "#SS", GP => "#GP", PF => "#PF", MF => "#MF", AC => "#AC", MC => "#MC", XM => "#XM", CP => "#CP", _ => null,
    };
}
