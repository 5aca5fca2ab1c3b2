using Iced.Intel;
using VirtPS.Emulation;

namespace VirtPS.Opcodes;

/// <summary>Which instruction forms are tried, and why the others are not.</summary>
internal sealed class Catalog
{
    private readonly List<Code> _codes = [];
    private readonly SortedDictionary<string, List<Code>> _left = new(StringComparer.Ordinal);

    public Catalog()
    {
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (!info.IsInstruction || !HandlerTable.Implements(code))
                continue;
            string? reason = WhyNot(code, info);
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

    /// <summary>Implemented forms that are not tried, by reason.</summary>
    public IReadOnlyDictionary<string, List<Code>> Left => _left;

    /// <summary>Moves a form to the untried when no encodable instance was found.</summary>
    public void Drop(Code code, string reason)
    {
        _codes.Remove(code);
        if (!_left.TryGetValue(reason, out List<Code>? list))
            _left[reason] = list = [];
        list.Add(code);
    }

    private static string? WhyNot(Code code, OpCodeInfo info)
    {
        if (!info.Mode64)
            return "not encodable in a 64-bit process";
        if (!info.Cpl3)
            return "privileged";
        if (info.Fwait)
            return "a decoder sees WAIT and the rest as two instructions";
        string? byMnemonic = ByMnemonic(info.Mnemonic);
        if (byMnemonic != null)
            return byMnemonic;
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (feature is CpuidFeature.FSGSBASE)
                return "would change the bases that the process's threads use";
            if (feature is CpuidFeature.CYRIX_FPU or CpuidFeature.D3NOW or CpuidFeature.CYRIX_D3NOW)
                return "not a feature of the modelled processor";
        }

        if (code.IsJmpFar() || code.IsCallFar() || code.IsJmpFarIndirect() || code.IsCallFarIndirect())
            return "enters the operating system or changes segments";
        if (code is Code.Bswap_r16)
            return "result undefined";
        if (code is Code.Mov_Sreg_rm16 or Code.Mov_Sreg_r32m16 or Code.Mov_Sreg_r64m16 or Code.Popw_FS or Code.Popq_FS or Code.Popw_GS or Code.Popq_GS)
            return "loads a segment register of the process";
        if (IsBranch(info) && (info.OperandSize == 16 || code.ToString().Contains("rm16", StringComparison.Ordinal)))
            return "16-bit near branches differ between vendors in 64-bit mode";
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
        Mnemonic.Monitor or Mnemonic.Mwait => "waits",
        _ => null,
    };

    private static bool IsBranch(OpCodeInfo info) => info.Code.FlowControl() is FlowControl.Call or FlowControl.ConditionalBranch or FlowControl.IndirectBranch
        or FlowControl.IndirectCall or FlowControl.Return or FlowControl.UnconditionalBranch or FlowControl.XbeginXabortXend;
}
