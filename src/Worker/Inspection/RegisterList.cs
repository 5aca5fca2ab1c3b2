using System.Buffers.Binary;
using System.Globalization;
using VirtPS.Engine;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Worker.Inspection;

/// <summary>A vCPU's state as registers with names.</summary>
internal static class RegisterList
{
    private static readonly string[] GeneralNames = ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"];

    /// <summary>Bits by name, from the SDM's figures; in the order in which they are shown.</summary>
    private static readonly (ulong Bit, string Name)[] FlagNames =
    [
        (Rflags.ID, "ID"), (Rflags.VIP, "VIP"), (Rflags.VIF, "VIF"), (Rflags.AC, "AC"), (Rflags.VM, "VM"), (Rflags.RF, "RF"), (Rflags.NT, "NT"),
        (Rflags.OF, "OF"), (Rflags.DF, "DF"), (Rflags.IF, "IF"), (Rflags.TF, "TF"), (Rflags.SF, "SF"), (Rflags.ZF, "ZF"), (Rflags.AF, "AF"), (Rflags.PF, "PF"), (Rflags.CF, "CF"),
    ];

    private static readonly (ulong Bit, string Name)[] Cr0Names =
    [
        (Cr0.PG, "PG"), (Cr0.CD, "CD"), (Cr0.NW, "NW"), (Cr0.AM, "AM"), (Cr0.WP, "WP"), (Cr0.NE, "NE"), (Cr0.ET, "ET"), (Cr0.TS, "TS"), (Cr0.EM, "EM"), (Cr0.MP, "MP"), (Cr0.PE, "PE"),
    ];

    private static readonly (ulong Bit, string Name)[] Cr4Names =
    [
        (Cr4.PKE, "PKE"), (Cr4.SMAP, "SMAP"), (Cr4.SMEP, "SMEP"), (Cr4.OSXSAVE, "OSXSAVE"), (Cr4.PCIDE, "PCIDE"), (Cr4.FSGSBASE, "FSGSBASE"), (Cr4.UMIP, "UMIP"),
        (Cr4.OSXMMEXCPT, "OSXMMEXCPT"), (Cr4.OSFXSR, "OSFXSR"), (Cr4.PCE, "PCE"), (Cr4.PGE, "PGE"), (Cr4.MCE, "MCE"), (Cr4.PAE, "PAE"), (Cr4.PSE, "PSE"), (Cr4.DE, "DE"), (Cr4.TSD, "TSD"),
        (Cr4.PVI, "PVI"), (Cr4.VME, "VME"),
    ];

    private static readonly (ulong Bit, string Name)[] EferNames = [(Efer.NXE, "NXE"), (Efer.LMA, "LMA"), (Efer.LME, "LME"), (Efer.SCE, "SCE")];

    /// <summary>Control and debug registers, in the order in which they are shown; what else a machine names is a model-specific register.</summary>
    private static readonly (string Name, RegisterGroup Group)[] ControlOrder =
    [
        ("CR0", RegisterGroup.Control), ("CR2", RegisterGroup.Control), ("CR3", RegisterGroup.Control), ("CR4", RegisterGroup.Control), ("CR8", RegisterGroup.Control), ("XCR0", RegisterGroup.Control),
        ("DR0", RegisterGroup.Debug), ("DR1", RegisterGroup.Debug), ("DR2", RegisterGroup.Debug), ("DR3", RegisterGroup.Debug), ("DR6", RegisterGroup.Debug), ("DR7", RegisterGroup.Debug),
    ];

    public static VirtRegisterSet Create(MachineRegisters registers, Guid vmId, string vmName)
    {
        var list = new Builder(vmId, vmName, registers.Vcpu);
        AddGeneral(list, registers);
        AddSegments(list, registers);
        AddControl(list, registers);
        AddVector(list, registers.Xsave);
        if ((registers.Control.GetValueOrDefault("XCR0") & Xcr0.Avx512) == Xcr0.Avx512)
            AddAvx512(list, registers.Xsave);
        return new VirtRegisterSet
        {
            VMId = vmId,
            VMName = vmName,
            Vcpu = registers.Vcpu,
            Mode = registers.Mode,
            GuestRing = registers.Cpl,
            Registers = list.Registers,
            CapturedAt = registers.CapturedAt,
        };
    }

    private static void AddGeneral(Builder list, MachineRegisters r)
    {
        for (int i = 0; i < GeneralNames.Length; i++)
            list.Add(GeneralNames[i], RegisterGroup.General, r.Gpr[i]);
        list.Add("RIP", RegisterGroup.General, r.Rip);
        ulong iopl = (r.Rflags & Rflags.IoplMask) >> Rflags.IoplShift;
        list.Add("RFLAGS", RegisterGroup.Flags, r.Rflags, $"{Bits(r.Rflags, FlagNames)} IOPL={iopl}".TrimStart());
    }

    private static void AddSegments(Builder list, MachineRegisters r)
    {
        for (SegmentName name = SegmentName.ES; name <= SegmentName.LDTR; name++)
        {
            SegmentRegister s = r.Segments[(int)name];
            string description = string.Create(CultureInfo.InvariantCulture, $"base {s.Base:X} limit {s.Limit:X} type {s.Attributes & SegmentRegister.TypeMask:X} DPL {s.Dpl}{(s.IsPresent ? "" : " not present")}{(s.IsUsable ? "" : " unusable")}");
            list.Add(name.ToString(), RegisterGroup.Segment, s.Selector, description, 16);
        }

        list.Add("GDTR", RegisterGroup.DescriptorTable, r.Gdtr.Base, $"limit {r.Gdtr.Limit:X}");
        list.Add("IDTR", RegisterGroup.DescriptorTable, r.Idtr.Base, $"limit {r.Idtr.Limit:X}");
    }

    private static void AddControl(Builder list, MachineRegisters r)
    {
        foreach ((string name, RegisterGroup group) in ControlOrder)
        {
            if (r.Control.TryGetValue(name, out ulong value))
                list.Add(name, group, value, name == "CR0" ? Bits(value, Cr0Names) : name == "CR4" ? Bits(value, Cr4Names) : null);
        }

        foreach ((string name, ulong value) in r.Control)
        {
            if (!ControlOrder.Any(c => c.Name == name))
                list.Add(MsrName(name), RegisterGroup.Msr, value, name == "EFER" ? Bits(value, EferNames) : null);
        }

        list.Add("IA32_FS_BASE", RegisterGroup.Msr, r.Segments[(int)SegmentName.FS].Base);
        list.Add("IA32_GS_BASE", RegisterGroup.Msr, r.Segments[(int)SegmentName.GS].Base);
        list.Add("IA32_TIME_STAMP_COUNTER", RegisterGroup.Msr, r.Tsc);
    }

    /// <summary>The SDM's name (Vol. 4): FMASK is what AMD calls SFMASK.</summary>
    private static string MsrName(string name) => name == "SFMASK" ? "IA32_FMASK" : name.StartsWith("IA32_", StringComparison.Ordinal) ? name : "IA32_" + name;

    /// <summary>From the standard XSAVE format (SDM Vol. 1 §13.4): x87 at 32, XMM at 160, upper halves of YMM at 576.</summary>
    private static void AddVector(Builder list, ReadOnlySpan<byte> xsave)
    {
        list.Add("FCW", RegisterGroup.Fpu, BinaryPrimitives.ReadUInt16LittleEndian(xsave), null, 16);
        list.Add("FSW", RegisterGroup.Fpu, BinaryPrimitives.ReadUInt16LittleEndian(xsave[2..]), null, 16);
        list.Add("FTW", RegisterGroup.Fpu, xsave[4], "abridged", 8);
        list.Add("MXCSR", RegisterGroup.Simd, BinaryPrimitives.ReadUInt32LittleEndian(xsave[24..]), null, 32);
        for (int i = 0; i < 8; i++)
            list.Add($"ST{i}", RegisterGroup.Fpu, xsave.Slice(32 + (16 * i), 10));
        Span<byte> ymm = stackalloc byte[32];
        for (int i = 0; i < 16; i++)
        {
            ReadOnlySpan<byte> low = xsave.Slice(160 + (16 * i), 16);
            low.CopyTo(ymm);
            xsave.Slice(VcpuState.YmmHighOffset + (16 * i), 16).CopyTo(ymm[16..]);
            list.Add($"XMM{i}", RegisterGroup.Simd, low);
            list.Add($"YMM{i}", RegisterGroup.Simd, ymm);
        }
    }

    /// <summary>Where the guest has enabled it: the opmasks, ZMM0–15 with all their bits, and the registers that only EVEX instructions name.</summary>
    private static void AddAvx512(Builder list, ReadOnlySpan<byte> xsave)
    {
        for (int i = 0; i < 8; i++)
            list.Add($"K{i}", RegisterGroup.Simd, BinaryPrimitives.ReadUInt64LittleEndian(xsave[(VcpuState.OpmaskOffset + (8 * i))..]));
        Span<byte> zmm = stackalloc byte[64];
        for (int i = 0; i < 16; i++)
        {
            xsave.Slice(160 + (16 * i), 16).CopyTo(zmm);
            xsave.Slice(VcpuState.YmmHighOffset + (16 * i), 16).CopyTo(zmm[16..]);
            xsave.Slice(VcpuState.ZmmHighOffset + (32 * i), 32).CopyTo(zmm[32..]);
            list.Add($"ZMM{i}", RegisterGroup.Simd, zmm);
        }

        for (int i = 16; i < 32; i++)
        {
            ReadOnlySpan<byte> register = xsave.Slice(VcpuState.HighZmmOffset + (64 * (i - 16)), 64);
            list.Add($"XMM{i}", RegisterGroup.Simd, register[..16]);
            list.Add($"YMM{i}", RegisterGroup.Simd, register[..32]);
            list.Add($"ZMM{i}", RegisterGroup.Simd, register);
        }
    }

    private static string Bits(ulong value, (ulong Bit, string Name)[] names) => string.Join(' ', names.Where(n => (value & n.Bit) != 0).Select(n => n.Name));

    private sealed class Builder(Guid vmId, string vmName, int vcpu)
    {
        public List<VirtRegister> Registers { get; } = [];

        public void Add(string name, RegisterGroup group, ulong value, string? description = null, int bits = 64) =>
            Add(name, group, value, value.ToString("X", CultureInfo.InvariantCulture).PadLeft(bits / 4, '0'), bits, description);

        public void Add(string name, RegisterGroup group, ReadOnlySpan<byte> littleEndian)
        {
            byte[] bigEndian = littleEndian.ToArray();
            Array.Reverse(bigEndian);
            Add(name, group, BinaryPrimitives.ReadUInt64LittleEndian(littleEndian), Convert.ToHexString(bigEndian), littleEndian.Length * 8, null);
        }

        private void Add(string name, RegisterGroup group, ulong value, string hex, int bits, string? description) => Registers.Add(new VirtRegister
        {
            VMId = vmId,
            VMName = vmName,
            Vcpu = vcpu,
            Name = name,
            Group = group,
            Size = bits,
            Value = value,
            Hex = hex,
            Description = string.IsNullOrEmpty(description) ? null : description,
        });
    }
}
