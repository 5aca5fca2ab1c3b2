using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// CR0, CR2, CR3, CR4, CR8, XCR0 and EFER with their consistency rules (SDM Vol. 3A §2.5, §4.1.2, §9.8.5).
public sealed unsafe partial class SoftVcpu
{
    private const ulong Cr0Implemented = Cr0.PE | Cr0.MP | Cr0.EM | Cr0.TS | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.NW | Cr0.CD | Cr0.PG;

    /// <summary>AMD's AutoIBRS (APM Vol. 2 §3.1.7). No speculation to restrict: the bit is kept and has no effect.</summary>
    internal const ulong EferAutoIbrs = 1ul << 21;

    private ulong? _cr4Allowed, _eferAllowed, _xcr0Allowed;

    /// <summary>PAE paging, not long mode: PDPTEs are loaded with CR3.</summary>
    private bool PaePagingActive => (S->Cr0 & Cr0.PG) != 0 && (S->Cr4 & Cr4.PAE) != 0 && !LongModeActive;

    private ulong PhysicalAddressMask => (1ul << Partition.Options.PhysicalAddressBits) - 1;

    internal bool ReadControlRegister(int number, out ulong value)
    {
        value = 0;
        if (number is not (0 or 2 or 3 or 4 or 8))
            return Raise(Vector.UD);
        if (S->Cpl != 0)
            return Raise(Vector.GP, 0);
        value = number switch
        {
            0 => S->Cr0,
            2 => S->Cr2,
            3 => S->Cr3,
            4 => S->Cr4,
            _ => Host.ReadCr8(),
        };
        return true;
    }

    internal bool WriteControlRegister(int number, ulong value)
    {
        if (number is not (0 or 2 or 3 or 4 or 8))
            return Raise(Vector.UD);
        if (S->Cpl != 0)
            return Raise(Vector.GP, 0);
        switch (number)
        {
            case 0:
                return WriteCr0(value);
            case 2:
                S->Cr2 = value;
                return true;
            case 3:
                return WriteCr3(value);
            case 4:
                return WriteCr4(value);
            default:
                if (value > 15)
                    return Raise(Vector.GP, 0);
                Host.WriteCr8(value);
                LeaveBlock();
                return true;
        }
    }

    internal bool WriteCr0(ulong value)
    {
        if (value >> 32 != 0 || (value & (Cr0.PG | Cr0.PE)) == Cr0.PG || (value & (Cr0.NW | Cr0.CD)) == Cr0.NW)
            return Raise(Vector.GP, 0);
        value = (value & Cr0Implemented) | Cr0.ET;
        ulong old = S->Cr0, changed = old ^ value;
        if ((changed & Cr0.PG) != 0 && !CheckPagingChange((value & Cr0.PG) != 0))
            return false;
        if ((changed & value & Cr0.PG) != 0 && (S->Efer & Efer.LME) == 0 && (S->Cr4 & Cr4.PAE) != 0 && !ReadPdptes(S->Cr3))
            return false;
        S->Cr0 = value;
        if ((changed & Cr0.PG) != 0)
            S->Efer = (value & Cr0.PG) != 0 && (S->Efer & Efer.LME) != 0 ? S->Efer | Efer.LMA : S->Efer & ~Efer.LMA;
        if ((changed & (Cr0.PG | Cr0.WP | Cr0.PE)) != 0)
            FlushTlb(global: true);
        if (changed != 0)
            ModeChanged();
        return true;
    }

    /// <summary>SDM Vol. 3A §9.8.5.1, §9.8.5.4 and §4.1.1.</summary>
    private bool CheckPagingChange(bool on)
    {
        bool refused = on
            ? (S->Efer & Efer.LME) != 0 && ((S->Cr4 & Cr4.PAE) == 0 || S->CS.IsLong || (S->TR.Attributes & SegmentRegister.TypeMask) == SystemType.Tss16Busy)
            : (LongModeActive && S->CS.IsLong) || (S->Cr4 & Cr4.PCIDE) != 0;
        return !refused || Raise(Vector.GP, 0);
    }

    private bool WriteCr3(ulong value)
    {
        bool keep = (S->Cr4 & Cr4.PCIDE) != 0 && (value >> 63) != 0;
        if ((S->Cr4 & Cr4.PCIDE) != 0)
            value &= ~(1ul << 63);
        if (LongModeActive)
        {
            if ((value & ~PhysicalAddressMask) != 0)
                return Raise(Vector.GP, 0);
        }
        else
        {
            value = (uint)value;
            if (!LoadPdptes(value))
                return false;
        }

        ulong old = S->Cr3;
        S->Cr3 = value;
        SwitchAddressSpace(old, keep);
        return true;
    }

    /// <summary>Drops the translations that a CR3 load drops (SDM Vol. 3A §4.10.4.1).</summary>
    private void SwitchAddressSpace(ulong oldCr3, bool keep)
    {
        // The software TLB holds one PCID at a time, so a change of tables drops its entries even where the processor may keep them.
        if (keep && ((oldCr3 ^ S->Cr3) & (PageBits.AddressMask | 0xFFF)) == 0)
            return;
        FlushTlb(global: false);
        LeaveBlock();
    }

    /// <summary>Reads and checks the four entries where PAE paging is in force; nothing otherwise. #GP(0) for reserved bits (SDM Vol. 3A §4.4.1).</summary>
    private bool LoadPdptes(ulong cr3) => !PaePagingActive || ReadPdptes(cr3);

    private bool ReadPdptes(ulong cr3)
    {
        ulong table = cr3 & 0xFFFF_FFE0;
        ulong* entries = stackalloc ulong[4];
        for (int i = 0; i < 4; i++)
        {
            entries[i] = ReadPhysical64(table + 8 * (ulong)i);
            const ulong reserved = 0x1E6;
            if ((entries[i] & PageBits.P) != 0 && (entries[i] & (reserved | ~PhysicalAddressMask)) != 0)
                return Raise(Vector.GP, 0);
        }

        for (int i = 0; i < 4; i++)
            S->Pdpte[i] = entries[i];
        return true;
    }

    /// <summary>An aligned physical read that page-table hardware makes by itself.</summary>
    private ulong ReadPhysical64(ulong gpa)
    {
        // SAFETY: slots are page-aligned and the address is aligned to 8, so all 8 bytes lie in the slot.
        return FindSlot(gpa) is { } slot ? *(ulong*)(slot.Host + (gpa - slot.Gpa)) : Host.ReadMmio(gpa, 8);
    }

    private ulong Cr4Allowed => _cr4Allowed ??= ComputeCr4Allowed();

    /// <summary>CR4 bits whose feature CPUID offers; the others are reserved.</summary>
    private ulong ComputeCr4Allowed()
    {
        CpuidResult one = Partition.Options.Cpuid.Query(1, 0), seven = Partition.Options.Cpuid.Query(7, 0);
        ulong allowed = Cr4.VME | Cr4.PVI | Cr4.TSD | Cr4.DE | Cr4.PSE | Cr4.PAE | Cr4.MCE | Cr4.PGE | Cr4.PCE | Cr4.OSFXSR | Cr4.OSXMMEXCPT;
        void Add(uint register, int bit, ulong cr4)
        {
            if ((register >> bit & 1) != 0)
                allowed |= cr4;
        }

        Add(one.Ecx, 17, Cr4.PCIDE);
        Add(one.Ecx, 26, Cr4.OSXSAVE);
        Add(seven.Ebx, 0, Cr4.FSGSBASE);
        Add(seven.Ebx, 7, Cr4.SMEP);
        Add(seven.Ebx, 20, Cr4.SMAP);
        Add(seven.Ecx, 2, Cr4.UMIP);
        return allowed;
    }

    private bool WriteCr4(ulong value)
    {
        ulong old = S->Cr4, changed = old ^ value;
        if ((value & ~Cr4Allowed) != 0 || (LongModeActive && (value & Cr4.PAE) == 0))
            return Raise(Vector.GP, 0);
        if ((changed & value & Cr4.PCIDE) != 0 && (!LongModeActive || (S->Cr3 & 0xFFF) != 0))
            return Raise(Vector.GP, 0);
        const ulong paging = Cr4.PAE | Cr4.PSE | Cr4.PGE | Cr4.SMEP | Cr4.SMAP | Cr4.PCIDE;
        bool loadsPdptes = (S->Cr0 & Cr0.PG) != 0 && !LongModeActive && (value & Cr4.PAE) != 0 && (changed & paging) != 0;
        if (loadsPdptes && !ReadPdptes(S->Cr3))
            return false;
        S->Cr4 = value;
        if ((changed & paging) != 0)
            FlushTlb(global: true);
        if (changed != 0)
            ModeChanged();
        return true;
    }

    private ulong EferAllowed => _eferAllowed ??= ComputeEferAllowed();

    private ulong ComputeEferAllowed()
    {
        CpuidResult extended = Partition.Options.Cpuid.Query(0x80000001, 0);
        ulong allowed = 0;
        if ((extended.Edx & (1u << 11)) != 0)
            allowed |= Efer.SCE;
        if ((extended.Edx & (1u << 29)) != 0)
            allowed |= Efer.LME | Efer.LMA;
        if ((extended.Edx & (1u << 20)) != 0)
            allowed |= Efer.NXE;
        if ((Partition.Options.Cpuid.Query(0x80000021, 0).Eax & (1u << 8)) != 0)
            allowed |= EferAutoIbrs;
        return allowed;
    }

    /// <summary>WRMSR to EFER. LMA follows CR0.PG and cannot be written; LME cannot change while paging. False: #GP.</summary>
    internal bool WriteEfer(ulong value)
    {
        if ((value & ~EferAllowed) != 0)
            return false;
        ulong changed = (S->Efer ^ value) & ~Efer.LMA;
        if ((changed & Efer.LME) != 0 && (S->Cr0 & Cr0.PG) != 0)
            return false;
        S->Efer = (value & ~Efer.LMA) | (S->Efer & Efer.LMA);
        if ((changed & Efer.NXE) != 0)
            FlushTlb(global: true);
        if (changed != 0)
            ModeChanged();
        return true;
    }

    private ulong Xcr0Allowed => _xcr0Allowed ??= Partition.Options.Cpuid.Query(0xD, 0).Eax | (ulong)Partition.Options.Cpuid.Query(0xD, 0).Edx << 32;

    /// <summary>XSETBV (SDM Vol. 2D).</summary>
    internal bool WriteXcr(uint index, ulong value)
    {
        if ((S->Cr4 & Cr4.OSXSAVE) == 0)
            return Raise(Vector.UD);
        if (S->Cpl != 0 || index != 0 || !Xcr0.IsValid(value, Xcr0Allowed))
            return Raise(Vector.GP, 0);
        S->Xcr0 = value;
        ModeChanged();
        return true;
    }

    /// <summary>XGETBV. Index 1, the components in use, only where CPUID offers it.</summary>
    internal bool ReadXcr(uint index, out ulong value)
    {
        value = S->Xcr0;
        if ((S->Cr4 & Cr4.OSXSAVE) == 0)
            return Raise(Vector.UD);
        return index == 0 || Raise(Vector.GP, 0);
    }

    /// <summary>LMSW: the low four bits of CR0; PE can be set but not cleared.</summary>
    internal bool LoadMachineStatusWord(ushort value)
    {
        if (S->Cpl != 0)
            return Raise(Vector.GP, 0);
        ulong pe = S->Cr0 & Cr0.PE;
        return WriteCr0((S->Cr0 & ~0xFul) | (value & 0xFul) | pe);
    }
}
