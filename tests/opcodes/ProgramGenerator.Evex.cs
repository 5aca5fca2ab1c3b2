using Iced.Intel;
using VirtPS.Emulation;

namespace VirtPS.Opcodes;

// EVEX prefixes that assemblers do not make: reserved bits, masks that must be there or must not, lengths and broadcasts that a form does not have.
internal sealed unsafe partial class ProgramGenerator
{
    private readonly InstructionInfoFactory _facts = new();

    /// <summary>
    /// An EVEX instruction on registers of whose prefix one bit is changed. Most are another instruction then, some are undefined. Half of them stand behind a branch, so that programs go on.
    /// </summary>
    private void ChangedPrefix()
    {
        if (_forms.Evex.Length == 0)
            return;
        Code code = _random.Pick<Code>(_forms.Evex);
        int at = Program.Length;
        _generator.Dangerous = false;
        if (!_generator.TryAppend(code, Program))
            return;
        byte[] bytes = Program.Code(Program.Length)[at..].ToArray();
        Program.Truncate(at);
        Program.DefineFlags();
        // What the instance needs set up before it is no part of this, and memory may be anywhere once a register is another.
        int prefix = Array.IndexOf(bytes, (byte)0x62);
        if (prefix != 0 || bytes.Length < 6 || bytes[5] < 0xC0)
            return;
        int bit = _random.Below(24);
        bytes[1 + bit / 8] ^= (byte)(1 << bit % 8);
        if (!MayRun(bytes))
            return;
        Count("EVEX prefix with a changed bit");
        int over = _random.OneIn(2) ? Branch() : 0;
        Program.EmitRaw(bytes);
        UndefinedAt[Here] = VirtPS.X86.Rflags.Status;
        Emit(Instruction.Create(Code.Cmp_r32_rm32, Any32(), Any32()));
        if (over != 0)
            Land(over);
    }

    /// <summary>Whether a mask keeps an instruction from an address that cannot be; k1 is what a general register happens to hold.</summary>
    private void MaskedNowhere()
    {
        Count("#GP by masked address");
        Emit(Instruction.Create(Code.Mov_r64_imm64, Register.RSI, _random.Next() & 0x0000_FFFF_FFFF_FFFF | 0x1234_8000_0000_0000));
        Emit(_random.OneIn(3) ? Instruction.Create(Code.VEX_Kxorq_kr_kr_kr, Register.K1, Register.K1, Register.K1) : Instruction.Create(Code.VEX_Kmovq_kr_r64, Register.K1, Any64()));
        var nowhere = new MemoryOperand(Register.RSI);
        Instruction i = _random.Below(6) switch
        {
            0 => Instruction.Create(Code.EVEX_Vmovdqu8_zmmm512_k1z_zmm, nowhere, Register.ZMM17),
            1 => Instruction.Create(Code.EVEX_Vmovdqu64_zmm_k1z_zmmm512, Register.ZMM17, nowhere),
            2 => Instruction.Create(Code.EVEX_Vpcompressd_ymmm256_k1z_ymm, nowhere, Register.YMM17),
            3 => Instruction.Create(Code.EVEX_Vpexpandw_xmm_k1z_xmmm128, Register.XMM17, nowhere),
            4 => Instruction.Create(Code.EVEX_Vbroadcastf32x4_zmm_k1z_m128, Register.ZMM17, nowhere),
            _ => Instruction.Create(Code.EVEX_Vpermd_zmm_k1z_zmm_zmmm512b32, Register.ZMM17, Register.ZMM3, nowhere),
        };
        i.OpMask = Register.K1;
        Emit(i);
    }

    /// <summary>It still is on registers, not the stack pointer's, of the same length, and not of a feature that this host may have and the emulator does not.</summary>
    private bool MayRun(byte[] bytes)
    {
        // One that is longer now would take what follows for its immediate.
        byte[] all = [.. bytes, 0, 0, 0, 0];
        var decoder = Decoder.Create(_bits, all, Here);
        Instruction i = decoder.Decode();
        if (i.IsInvalid)
            return true;
        if (i.Length != bytes.Length || !HandlerTable.Implements(i.Code))
            return false;
        InstructionInfo facts = _facts.GetInfo(i);
        foreach (UsedRegister used in facts.GetUsedRegisters())
        {
            if (used.Register.GetFullRegister() == Register.RSP)
                return false;
        }

        return !facts.GetUsedMemory().GetEnumerator().MoveNext();
    }
}
