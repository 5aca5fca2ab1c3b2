using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using VirtPS.Emulation;

namespace VirtPS.Opcodes;

/// <summary>Which instruction forms are tried, and why the others are not.</summary>
internal sealed class Catalog
{
    private readonly List<Code> _codes = [];
    private readonly SortedDictionary<string, List<Code>> _left = new(StringComparer.Ordinal);

    /// <param name="bits">64, or 32 for compatibility mode.</param>
    /// <param name="all">Forms that the host could run and the emulator does not implement, too.</param>
    public Catalog(int bits, bool all = false)
    {
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            bool implements = HandlerTable.Implements(code);
            if (!info.IsInstruction || (!implements && !HostVectors.IsBorrowed(code)))
                continue;
            string? reason = WhyNot(code, info, bits);
            if (reason == null && !implements && !all)
                reason = "not implemented, though the processor that is offered has it";
            if (reason == null)
                _codes.Add(code);
            else if (_left.TryGetValue(reason, out List<Code>? list))
                list.Add(code);
            else
                _left[reason] = [code];
        }
    }

    /// <summary>Forms that run natively and in the interpreter.</summary>
    public IReadOnlyList<Code> Codes => _codes;

    /// <summary>Forms that are not tried, by reason.</summary>
    public IReadOnlyDictionary<string, List<Code>> Left => _left;

    /// <summary>Moves a form to the untried when no encodable instance was found.</summary>
    public void Drop(Code code, string reason)
    {
        _codes.Remove(code);
        if (!_left.TryGetValue(reason, out List<Code>? list))
            _left[reason] = list = [];
        list.Add(code);
    }

    private static string? WhyNot(Code code, OpCodeInfo info, int bits)
    {
        if (bits == 64 ? !info.Mode64 : !info.Mode32)
            return $"not encodable in {bits}-bit mode";
        if (info.DecoderOption != DecoderOptions.None)
            return "another vendor's or a forgotten encoding, which the decoder never yields";
        if (!info.Cpl3)
            return "privileged";
        if (HostVectors.WhyNarrow != null && HostVectors.IsWide(code))
            return HostVectors.WhyNarrow;
        if (info.Fwait)
            return "a decoder sees WAIT and the rest as two instructions";
        string? byMnemonic = ByMnemonic(info.Mnemonic);
        if (byMnemonic != null)
            return byMnemonic;
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (feature is CpuidFeature.FSGSBASE)
                return "would change the bases that the process's threads use";
            if (feature is CpuidFeature.KNC or CpuidFeature.CYRIX_FPU or CpuidFeature.D3NOW or CpuidFeature.CYRIX_D3NOW)
                return "not a feature of the modelled processor";
        }

        string? host = HostLacks(code);
        if (host != null)
            return host;
        if (code.IsJmpFar() || code.IsCallFar() || code.IsJmpFarIndirect() || code.IsCallFarIndirect())
            return "enters the operating system or changes segments";
        if (code is Code.Bswap_r16)
            return "result undefined";
        if (code is Code.Popw_ES or Code.Popd_ES or Code.Popw_SS or Code.Popd_SS or Code.Popw_DS or Code.Popd_DS or Code.Popd_FS or Code.Popd_GS or Code.Mov_Sreg_rm16 or Code.Mov_Sreg_r32m16 or Code.Mov_Sreg_r64m16 or Code.Popw_FS or Code.Popq_FS or Code.Popw_GS or Code.Popq_GS)
            return "loads a segment register of the process";
        // SDM Vol. 2B, PUSH: "recent" processors of Intel's leave the slot's upper half as it was, others make it zero.
        if (HostVendor.IsIntel && code is Code.Pushd_CS or Code.Pushd_SS or Code.Pushd_DS or Code.Pushd_ES or Code.Pushd_FS or Code.Pushd_GS)
            return "Intel's processors leave half of the slot as it was";
        if (IsBranch(info) && (info.OperandSize == 16 || code.ToString().Contains("rm16", StringComparison.Ordinal)))
            return "16-bit near branches: vendors differ in 64-bit mode, and the code lies above 64 KiB";
        return null;
    }

    private static string? ByMnemonic(Mnemonic m) => m switch
    {
        Mnemonic.Cpuid or Mnemonic.Rdtsc or Mnemonic.Rdtscp or Mnemonic.Rdrand or Mnemonic.Rdseed or Mnemonic.Rdpid or Mnemonic.Xgetbv or Mnemonic.Rdpmc
            or Mnemonic.Sgdt or Mnemonic.Sidt or Mnemonic.Sldt or Mnemonic.Str or Mnemonic.Smsw or Mnemonic.Lar or Mnemonic.Lsl or Mnemonic.Verr
            or Mnemonic.Verw or Mnemonic.Rdpkru or Mnemonic.Wrpkru => "answers with host state that the guest need not share",
        Mnemonic.Syscall or Mnemonic.Sysenter or Mnemonic.Int or Mnemonic.Int1 or Mnemonic.Int3 or Mnemonic.Into or Mnemonic.Vmcall or Mnemonic.Vmmcall
            or Mnemonic.Iret or Mnemonic.Iretd or Mnemonic.Iretq or Mnemonic.Retf or Mnemonic.Xabort or Mnemonic.Xbegin or Mnemonic.Xend
            => "enters the operating system or changes segments",
        Mnemonic.In or Mnemonic.Out or Mnemonic.Insb or Mnemonic.Insw or Mnemonic.Insd or Mnemonic.Outsb or Mnemonic.Outsw or Mnemonic.Outsd
            or Mnemonic.Cli or Mnemonic.Sti or Mnemonic.Hlt => "needs I/O privilege",
        Mnemonic.Lfs or Mnemonic.Lgs or Mnemonic.Lss or Mnemonic.Lds or Mnemonic.Les => "loads a segment register of the process",
        Mnemonic.Ud0 or Mnemonic.Ud1 or Mnemonic.Ud2 or Mnemonic.Rsm => "always faults",
        Mnemonic.Xsave or Mnemonic.Xsave64 or Mnemonic.Xsaveopt or Mnemonic.Xsaveopt64 or Mnemonic.Xrstor or Mnemonic.Xrstor64
            => "the host has more components and tracks INUSE in its own way (unit tests)",
        Mnemonic.Bound => "faults unless the bounds fit",
        Mnemonic.Monitor or Mnemonic.Mwait => "waits",
        _ => null,
    };

    private static bool IsBranch(OpCodeInfo info) => info.Code.FlowControl() is FlowControl.Call or FlowControl.ConditionalBranch or FlowControl.IndirectBranch
        or FlowControl.IndirectCall or FlowControl.Return or FlowControl.UnconditionalBranch or FlowControl.XbeginXabortXend;

    // Only features that the emulator has of its own matter here; those it borrows are there.
    private static string? HostLacks(Code code)
    {
        (_, int ebx, int ecx, int edx) = X86Base.CpuId(7, 0);
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            bool has = feature switch
            {
                CpuidFeature.SERIALIZE => Bit(edx, 14),
                CpuidFeature.MOVDIRI => Bit(ecx, 27),
                CpuidFeature.MOVDIR64B => Bit(ecx, 28),
                CpuidFeature.BMI1 => Bmi1.IsSupported,
                CpuidFeature.BMI2 => Bmi2.IsSupported,
                CpuidFeature.LZCNT => Lzcnt.IsSupported,
                CpuidFeature.ADX => Bit(ebx, 19),
                CpuidFeature.CLFLUSHOPT => Bit(ebx, 23),
                CpuidFeature.CLWB => Bit(ebx, 24),
                CpuidFeature.HLE_or_RTM => Bit(ebx, 4) || Bit(ebx, 11),
                CpuidFeature.MOVBE => Bit(X86Base.CpuId(1, 0).Ecx, 22),
                CpuidFeature.POPCNT => Popcnt.IsSupported,
                _ => true,
            };
            if (!has)
                return "the host does not have it";
        }

        return null;
    }

    private static bool Bit(int value, int bit) => (value >> bit & 1) != 0;
}
