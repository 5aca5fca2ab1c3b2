using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

// x87 and MMX instructions by the host's own, while everything is masked and nothing pending; see Stubs.LoadX87. The pointers to the last instruction and its operand
// are the guest's, kept in the state.
internal sealed unsafe partial class BlockTranslator
{
    private static readonly HostMemory s_instructionPointer = HostMemory.State(Stubs.XsaveOffset + VectorFile.Fip), s_dataPointer = HostMemory.State(Stubs.XsaveOffset + VectorFile.Fdp);

    private readonly Dictionary<int, X87Form> _x87Forms = [];


    private bool TryReadX87(Op* op, out X87Form form)
    {
        form = default;
        // In 32-bit code the pointers are kept with their selectors.
        if (!op->Has(OpFlags.Code64))
            return false;
        int key = (int)op->Code << 1 | (op->IsMemory ? 1 : 0);
        if (!_x87Forms.TryGetValue(key, out form))
        {
            var decoder = Decoder.Create(64, new ByteArrayCodeReader(new ReadOnlySpan<byte>(VirtPS.Emulation.Op.Bytes(op), op->Length).ToArray()));
            decoder.Decode(out Instruction instruction);
            form = _host.Xsave ? X87Form.Of(instruction, _vectorFacts) : default;
            _x87Forms.Add(key, form);
        }

        // The data pointer is an offset in the segment: where it is not the linear address the interpreter knows it.
        return form.IsUsable && !(op->IsMemory && op->Seg >= VirtPS.X86.SegmentName.FS);
    }

    /// <summary>As <see cref="TryVectorFacts"/>.</summary>
    private bool TryX87Facts(Op* op, ref FlagFacts facts)
    {
        if (!TryReadX87(op, out X87Form form))
            return false;
        uint changes = form.Kind == X87Kind.StatusToAx ? 1u : 0;
        if (form.Kind == X87Kind.Mmx && (form.Reg | form.Rm) != GprRole.None)
        {
            var e = new VectorEncoding(VirtPS.Emulation.Op.Bytes(op), op->Length);
            changes = (form.Reg == GprRole.Written ? 1u << e.Reg : 0) | (form.Rm == GprRole.Written ? 1u << e.Rm : 0);
        }

        facts = new FlagFacts
        {
            IsPlain = true,
            Changes = changes,
            MayFault = true,
            Reads = form.ReadsFlags ? FlagFacts.All : 0,
            Touches = form.WritesFlags,
            // FCOMI clears the other three, but not on every processor.
            Writes = form.WritesFlags ? FlagFacts.C | FlagFacts.Z | FlagFacts.P : 0,
        };
        return true;
    }

    private bool EmitX87(Op* op)
    {
        if (!TryReadX87(op, out X87Form form))
            return false;
        EmitX87Check();
        switch (form.Kind)
        {
            case X87Kind.Wait:
                // Nothing is pending.
                return true;
            case X87Kind.Emms:
                _a.Byte(0x0F);
                _a.Byte(0x77);
                return true;
            case X87Kind.Mmx:
                EmitMmx(op, form);
                return true;
            case X87Kind.LoadControl:
                EmitLoadControl(op);
                return true;
        }

        byte* escape = EscapeOf(op);
        if (op->IsMemory)
        {
            _a.Op(escape[0], escape[1] >> 3 & 7, EmitOperand(op, form.MemorySize, form.Memory));
        }
        else
        {
            _a.Byte(escape[0]);
            _a.Byte(escape[1]);
        }

        if (form.Kind == X87Kind.Arithmetic)
            EmitX87Pointers(op);
        return true;
    }

    /// <summary>The opcode D8–DF and ModRM.</summary>
    private static byte* EscapeOf(Op* op)
    {
        byte* p = VirtPS.Emulation.Op.Bytes(op);
        while ((*p & 0xF8) != 0xD8)
            p++;
        return p;
    }

    private void EmitX87Pointers(Op* op)
    {
        if (op->IsMemory)
        {
            // An index that is in memory takes R10.
            if (op->Index != 0xFF && RegisterMap.InMemory(op->Index))
                _addendPin = -1;
            _a.Store(s_dataPointer, EmitAddress(op));
        }

        // Nobody can see the instruction pointer before the next one sets it.
        if (_index + 1 < _block->Count && TryReadX87(op + 1, out X87Form next) && next.IsArithmeticOnRegisters)
            return;
        EmitCodeAddress(HostReg.R11, op->Offset);
        _a.Store(s_instructionPointer, HostReg.R11);
    }

    /// <summary>FLDCW, unless it unmasks something. Keeps flags.</summary>
    private void EmitLoadControl(Op* op)
    {
        HostMemory value = HostMemory.State(VcpuMemory.FlagsOffset), save = HostMemory.State(VcpuMemory.SaveOffset);
        _a.Op(0xB7 | HostOp.Map0F, (int)HostReg.R11, EmitOperand(op, 2, MemoryUse.Read));
        _addendPin = -1;
        _a.Store(value, HostReg.R11);
        _a.Store(save, HostReg.Rcx);
        // NOT; LEA; MOVZX: the low six bits, inverted, as a byte.
        _a.Op(0xF7, 2, HostReg.R11);
        _a.Lea32(HostReg.Rcx, new HostMemory(HostReg.None, 0, HostReg.R11, 2));
        _a.Op(0xB6 | HostOp.Map0F, (int)HostReg.Rcx, HostReg.Rcx);
        byte* masked = _a.JumpIfRcxZero();
        AddMiss(_a.Jump(), ColdKind.Miss, CanMakeFlags ? _recipe : default);
        _a.BindShort(masked);
        _a.Load(HostReg.Rcx, save);
        _a.Op(0xD9, 5, value);
    }

    private void EmitMmx(Op* op, in X87Form form)
    {
        var e = new VectorEncoding(VirtPS.Emulation.Op.Bytes(op), op->Length);
        // REX.R and REX.B mean nothing to MMX registers.
        int reg = form.Reg == GprRole.None ? e.Reg & 7 : RegisterMap.InMemory(e.Reg) ? (int)HostReg.R11 : (int)RegisterMap.Host(e.Reg);
        if (op->IsMemory)
        {
            _a.Op(e.Opcode, reg, EmitOperand(op, form.MemorySize, form.Memory), e.W);
        }
        else
        {
            bool inMemory = form.Rm != GprRole.None && RegisterMap.InMemory(e.Rm);
            HostReg rm = form.Rm == GprRole.None ? (HostReg)(e.Rm & 7) : inMemory ? HostReg.R11 : RegisterMap.Host(e.Rm);
            if (inMemory && form.Rm == GprRole.Read)
                _a.Load(rm, RegisterMap.Slot(e.Rm));
            _a.Op(e.Opcode, reg, rm, e.W);
            EmitImmediate(op, e.ImmediateBytes);
            if (inMemory && form.Rm == GprRole.Written)
                _a.Store(RegisterMap.Slot(e.Rm), rm);
            if (form.Reg == GprRole.Written && RegisterMap.InMemory(e.Reg))
                _a.Store(RegisterMap.Slot(e.Reg), (HostReg)reg);
            return;
        }

        EmitImmediate(op, e.ImmediateBytes);
    }

    /// <summary>As <see cref="EmitVectorCheck"/>, for the x87 state.</summary>
    private void EmitX87Check()
    {
        if (_loaded.X87)
            return;
        _loaded.X87 = true;
        EmitLoadedCheck(Stubs.X87IdleOffset, ColdKind.X87);
    }
}
