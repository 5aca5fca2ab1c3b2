using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Opcodes;

// Code that changes itself, and instructions that always or mostly fault.
internal sealed unsafe partial class ProgramGenerator
{
    /// <summary>Changes an immediate or an opcode, ahead of itself (from the very next instruction on) or behind, where only a loop comes again.</summary>
    private void SelfModify()
    {
        if (_random.OneIn(5))
        {
            StringOntoCode();
            return;
        }

        Count("self-modification");
        if (_random.OneIn(3))
        {
            ulong target = EmitVictim(out int immediate);
            Plain();
            EmitPatch(target, immediate, immediate == 0 ? -1 : _random.Below(3));
            return;
        }

        // The victim's address is known once it stands; the patch before it has an address of fixed length.
        int at = Program.Length;
        bool opcode = _random.OneIn(3);
        int form = opcode ? -1 : _random.Below(3);
        EmitPatch(Here, 1, form);
        int length = Program.Length - at;
        Program.Truncate(at);
        ulong victim = Here + (ulong)length;
        int between = _random.Below(3) == 0 ? 1 + _random.Below(60) : 0;
        victim += (ulong)between;
        EmitPatch(victim, opcode ? 0 : VictimImmediate, form);
        for (int i = 0; i < between; i++)
            Emit(Instruction.Create(Code.Nopd));
        if (opcode)
            EmitCountVictim();
        else
            EmitImmediateVictim();
    }

    /// <summary>Distance of the immediate from the start of what <see cref="EmitImmediateVictim"/> makes.</summary>
    private const int VictimImmediate = 2;

    private ulong EmitVictim(out int immediate)
    {
        ulong at = Here;
        if (_random.OneIn(2))
        {
            immediate = 0;
            EmitCountVictim();
        }
        else
        {
            immediate = VictimImmediate;
            EmitImmediateVictim();
        }

        return at;
    }

    // 81 /r id and C7 /0 id: two bytes, then the immediate.
    private void EmitImmediateVictim()
    {
        Code code = _random.Pick<Code>([Code.Add_rm32_imm32, Code.Xor_rm32_imm32, Code.Sub_rm32_imm32, Code.Mov_rm32_imm32, Code.Adc_rm32_imm32]);
        Emit(Instruction.Create(code, _random.Pick<Register>([Register.ECX, Register.EDX, Register.EBX, Register.EBP, Register.ESI, Register.EDI]), (int)_random.Next()));
    }

    // FF C0+r is INC, FF C8+r DEC.
    private void EmitCountVictim() => Emit(Instruction.Create(_random.OneIn(2) ? Code.Inc_rm32 : Code.Dec_rm32, Any32()));

    /// <param name="form">-1: changes the opcode; else how the immediate changes.</param>
    private void EmitPatch(ulong victim, int immediate, int form)
    {
        ulong at = victim + (ulong)immediate;
        switch (form)
        {
            case -1:
                Emit(Instruction.Create(Code.Xor_rm8_imm8, At(victim + 1), 8));
                break;
            case 0:
                Emit(Instruction.Create(Code.Add_rm32_imm32, At(at), (int)_random.Next()));
                break;
            case 1:
                Emit(Instruction.Create(Code.Xor_rm32_imm32, At(at), (int)_random.Next()));
                break;
            default:
                Emit(Instruction.Create(Code.Rol_rm32_imm8, At(at), 1 + _random.Below(31)));
                UndefinedAt[Here] = Rflags.OF;
                Emit(Instruction.Create(Code.Cmp_r32_rm32, Register.EAX, Register.ECX));
                break;
        }
    }

    /// <summary>Something that faults. Half of them stand behind a branch, so that programs go on.</summary>
    private void Fault()
    {
        int over = _random.OneIn(2) ? Branch() : 0;
        switch (_random.Below(_bits == 64 ? 13 : 11))
        {
            case 0:
                Count("#UD");
                EmitUndefined();
                break;
            case 1:
                Count("#DE");
                Emit(Instruction.Create(Code.Xor_r32_rm32, Register.ECX, Register.ECX));
                bool narrow = _random.OneIn(2);
                Emit(Instruction.Create(narrow ? Code.Div_rm8 : _random.OneIn(2) ? Code.Idiv_rm32 : Code.Div_rm32, narrow ? Register.CL : Register.ECX));
                break;
            case 2:
                Count("#DE by overflow");
                Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EDX, (int)_random.Next() | 1));
                Emit(Instruction.Create(Code.Mov_r32_imm32, Register.ECX, 1));
                Emit(Instruction.Create(_random.OneIn(2) ? Code.Div_rm32 : Code.Idiv_rm32, Register.ECX));
                UndefinedAt[Here] = Rflags.Status;
                Emit(Instruction.Create(Code.Cmp_r32_rm32, Register.EDX, Register.EAX));
                break;
            case 3:
                Count("privileged");
                EmitPrivileged();
                break;
            case 4:
                Count("INT");
                EmitInterrupt();
                break;
            case 5:
                Count("trap flag");
                EmitTrapFlag();
                break;
            case 6:
                Count("unmasked SSE exceptions");
                EmitControl(Code.Ldmxcsr_m32, 0x1F80u & ~(uint)(1 << (7 + _random.Below(6))) | (uint)(_random.Next() & 0xE000));
                for (int i = _random.Below(4); i > 0 && _forms.Float.Length > 0; i--)
                    Plain(_forms.Float);
                break;
            case 7:
                Count("unmasked x87 exceptions");
                Emit(Instruction.Create(Code.Fninit));
                EmitControl(Code.Fldcw_m2byte, 0x37Fu & ~(uint)(1 << _random.Below(6)));
                break;
            case 8:
                Count("jump into nothing");
                Emit(Instruction.CreateBranch(_bits == 64 ? Code.Jmp_rel32_64 : Code.Jmp_rel32_32, (ulong)_layout.Hole + (ulong)_random.Below(4096)));
                break;
            case 9:
                Count("run over the end into nothing");
                EmitRunOver();
                break;
            case 10:
                Count("misaligned vector");
                EmitBytes([0x0F, 0x28, (byte)(0x05 | _random.Below(8) << 3)], (int)_layout.Sandbox + 1 + _random.Below(15));
                break;
            case 11 when _forms.Evex.Length > 0 && _random.OneIn(2):
                MaskedNowhere();
                break;
            case 11:
                Count("#GP by address");
                Emit(Instruction.Create(Code.Mov_r64_imm64, Register.RSI, _random.Next() & 0x0000_FFFF_FFFF_FFFF | 0x1234_8000_0000_0000));
                Emit(Instruction.Create(_random.OneIn(2) ? Code.Mov_r64_rm64 : Code.Add_r64_rm64, Register.RBX, new MemoryOperand(Register.RSI)));
                break;
            default:
                Count("#SS by address");
                Emit(Instruction.Create(Code.Mov_r64_imm64, Register.RBP, 0x8000_0000_0000_0000 | _random.Next() >> 1));
                Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RBX, new MemoryOperand(Register.RBP, 8, 8)));
                break;
        }

        if (over != 0)
            Land(over);
    }

    private void EmitUndefined()
    {
        switch (_random.Below(4))
        {
            case 0:
                Emit(Instruction.Create(Code.Ud2));
                break;
            case 1:
                // LOCK before what cannot be locked.
                EmitBytes([0xF0, 0x89, 0xC8]);
                break;
            case 2:
                // LOCK before a register form.
                EmitBytes([0xF0, 0x01, 0xC8]);
                break;
            default:
                // MOV to CS.
                EmitBytes([0x8E, 0xC8]);
                break;
        }
    }

    private void EmitPrivileged()
    {
        switch (_random.Below(6))
        {
            case 0: Emit(Instruction.Create(Code.Hlt)); break;
            case 1: Emit(Instruction.Create(Code.Cli)); break;
            case 2: EmitBytes([0x0F, 0x20, 0xC0]); break;
            case 3: Emit(Instruction.Create(Code.Wbinvd)); break;
            case 4: Emit(Instruction.Create(Code.In_AL_DX, Register.AL, Register.DX)); break;
            default: Emit(Instruction.Create(Code.Wrmsr)); break;
        }
    }

    private void EmitInterrupt()
    {
        // Not INT1: hypervisors under which the native side may run report its RIP as a fault's.
        switch (_random.Below(_bits == 64 ? 2 : 3))
        {
            case 0: Emit(Instruction.Create(Code.Int3)); break;
            case 1: Emit(Instruction.Create(Code.Int_imm8, 0x90 + _random.Below(64))); break;
            default: Emit(Instruction.Create(Code.Into)); break;
        }
    }

    // #DB comes after the instruction behind POPF.
    private void EmitTrapFlag()
    {
        Emit(LoadStack((ulong)_layout.StackTop + 1536));
        Emit(Instruction.Create(_bits == 64 ? Code.Pushfq : Code.Pushfd));
        var top = new MemoryOperand(_bits == 64 ? Register.RSP : Register.ESP);
        Emit(Instruction.Create(Code.Or_rm32_imm32, top, 0x100));
        Emit(Instruction.Create(_bits == 64 ? Code.Popfq : Code.Popfd));
        switch (_random.Below(4))
        {
            case 0: Emit(Instruction.Create(Code.Nopd)); break;
            case 1: Land(Jump()); break;
            case 2: Emit(Instruction.Create(Code.Inc_rm32, Register.ECX)); break;
            default: Emit(Instruction.Create(Code.Ud2)); break;
        }
    }

    private void EmitControl(Code code, uint value)
    {
        ulong slot = NewSlot();
        Emit(Instruction.Create(Code.Mov_rm32_imm32, At(slot), (int)value));
        Emit(Instruction.Create(code, At(slot)));
    }

    /// <summary>Puts a few NOPs, or the beginning of a long instruction, at the end of the code's last page and jumps there.</summary>
    private void EmitRunOver()
    {
        ulong end = (ulong)_layout.CodeHole;
        if (_random.OneIn(2))
        {
            Emit(Instruction.Create(Code.Mov_rm32_imm32, At(end - 4), unchecked((int)0x90909090)));
        }
        else
        {
            // MOV r/m32, imm32 wants more than there is.
            Emit(Instruction.Create(Code.Mov_rm32_imm32, At(end - 4), 0x00C1C790));
        }

        Emit(Instruction.CreateBranch(_bits == 64 ? Code.Jmp_rel32_64 : Code.Jmp_rel32_32, end - (ulong)(1 + _random.Below(4))));
    }

    private void EmitBytes(ReadOnlySpan<byte> bytes, int? displacement = null)
    {
        if (displacement is { } d)
        {
            // In 64-bit mode ModRM 05 is RIP-relative.
            Span<byte> all = [.. bytes, 0, 0, 0, 0];
            System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(all[bytes.Length..], _bits == 64 ? d - (int)(Here + (ulong)all.Length) : d);
            Program.EmitRaw(all);
            return;
        }

        Program.EmitRaw(bytes);
    }
}
