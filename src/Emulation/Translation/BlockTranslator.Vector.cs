using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

// SSE, AVX and AVX-512 instructions by the host's own. While the guest's vector registers are in the host's, MXCSR is the guest's too; see Stubs.LoadVectors.
internal sealed unsafe partial class BlockTranslator
{
    private readonly Dictionary<int, VectorForm> _vectorForms = [];
    private readonly InstructionInfoFactory _vectorFacts = new();

    /// <summary>What of the guest's state code may take to be in the host's registers: YMM0–15 (with the upper halves of ZMM0–15, whatever they hold), the x87 state, ZMM16–31 and masks.</summary>
    private struct Loaded
    {
        public bool Vectors, X87, Wide;
    }

    private Loaded _loaded;

    /// <summary>
    /// Emits the present instruction (<see cref="_index"/>) if it is a vector one; false: the interpreter does it, and what was written is taken back.
    /// Until the last check that may miss has passed, no guest register may be changed: a miss does the whole instruction from its beginning.
    /// </summary>
    private bool EmitVector(Op* op)
    {
        if (!TryReadVector(op, out VectorForm form))
            return false;
        EmitVectorCheck(form.Wide);
        var e = new VectorEncoding(VirtPS.Emulation.Op.Bytes(op), op->Length);
        if (!e.HasModRm)
        {
            for (int i = 0; i < op->Length; i++)
                _a.Byte(VirtPS.Emulation.Op.Bytes(op)[i]);
            return true;
        }

        bool regInMemory = form.Reg != GprRole.None && RegisterMap.InMemory(e.Reg);
        int reg = form.Reg == GprRole.None ? e.Reg : regInMemory ? (int)HostReg.R11 : (int)RegisterMap.Host(e.Reg);
        if (op->IsMemory)
        {
            Encode(e, reg, EmitOperand(op, form.MemorySize, form.Memory, form.Aligned));
        }
        else
        {
            bool rmInMemory = form.Rm != GprRole.None && RegisterMap.InMemory(e.RmGpr);
            HostReg rm = form.Rm == GprRole.None ? (HostReg)e.Rm : rmInMemory ? HostReg.R10 : RegisterMap.Host(e.RmGpr);
            if (rmInMemory && form.Rm == GprRole.Read)
                _a.Load(rm, RegisterMap.Slot(e.RmGpr));
            Encode(e, reg, rm);
            EmitImmediate(op, e.ImmediateBytes);
            if (rmInMemory && form.Rm == GprRole.Written)
                _a.Store(RegisterMap.Slot(e.RmGpr), rm);
            if (regInMemory)
                _a.Store(RegisterMap.Slot(e.Reg), (HostReg)reg);
            return true;
        }

        EmitImmediate(op, e.ImmediateBytes);
        if (regInMemory)
            _a.Store(RegisterMap.Slot(e.Reg), (HostReg)reg);
        return true;
    }

    private bool TryReadVector(Op* op, out VectorForm form)
    {
        // The size tells a memory operand that is broadcast from a whole one.
        int key = (((int)op->Code << 8 | op->OpSize) << 1 | (op->IsMemory ? 1 : 0)) << 1 | (_code64 ? 1 : 0);
        if (!_vectorForms.TryGetValue(key, out form))
        {
            var decoder = Decoder.Create(_code64 ? 64 : 32, new ByteArrayCodeReader(new ReadOnlySpan<byte>(VirtPS.Emulation.Op.Bytes(op), op->Length).ToArray()));
            decoder.Decode(out Instruction instruction);
            form = Array.TrueForAll(instruction.CpuidFeatures, _host.Offers) ? VectorForm.Of(instruction, _vectorFacts) : default;
            _vectorForms.Add(key, form);
        }

        return form.IsUsable && (_code64 || !VectorForm.DiffersIn32(op));
    }

    /// <summary>What <see cref="FlagFacts"/> says about instructions that it knows, for vector instructions.</summary>
    private bool TryVectorFacts(Op* op, ref FlagFacts facts)
    {
        if (!TryReadVector(op, out VectorForm form))
            return false;
        var e = new VectorEncoding(VirtPS.Emulation.Op.Bytes(op), op->Length);
        uint changes = (form.Reg == GprRole.Written ? 1u << e.Reg : 0) | (form.Rm == GprRole.Written ? 1u << e.RmGpr : 0);
        // Any of them may find the vector registers not loaded, and fault for that. The string compares return in RCX, and write all flags as the other comparisons do.
        facts = new FlagFacts { IsPlain = true, Changes = form.WritesFlags ? changes | 2 : changes, MayFault = true, Touches = form.WritesFlags, Writes = form.WritesFlags ? FlagFacts.All : 0 };
        return true;
    }

    private void Encode(in VectorEncoding e, int reg, in HostMemory m)
    {
        if (e.IsEvex)
            _a.Evex(e.Prefix, e.Opcode, reg, m);
        else if (e.IsVex)
            _a.Vex(e.Opcode, reg, e.Vvvv, m, e.W, e.L);
        else
            _a.Op(e.Opcode, reg, m, e.W);
    }

    private void Encode(in VectorEncoding e, int reg, HostReg rm)
    {
        if (e.IsEvex)
            _a.Evex(e.Prefix, e.Opcode, reg, (int)rm);
        else if (e.IsVex)
            _a.Vex(e.Opcode, reg, e.Vvvv, rm, e.W, e.L);
        else
            _a.Op(e.Opcode, reg, rm, e.W);
    }

    /// <summary>Makes sure that the guest's vector registers are in the host's, or that the rest of the block is interpreted because they may not be used now.</summary>
    private void EmitVectorCheck(bool wide)
    {
        if (wide ? _loaded.Wide : _loaded.Vectors)
            return;
        _loaded.Vectors = true;
        _loaded.Wide |= wide;
        EmitLoadedCheck(wide ? Stubs.WideIdleOffset : Stubs.VectorIdleOffset, wide ? ColdKind.Wide : ColdKind.Vectors);
    }

    /// <summary>Goes on where a field is zero, else to a gate that loads what is not loaded. Changes no flags and, but R10, no register.</summary>
    private void EmitLoadedCheck(int idle, ColdKind kind)
    {
        _addendPin = -1;
        _a.Move(HostReg.R10, HostReg.Rcx);
        _a.Load32(HostReg.Rcx, HostMemory.State(idle));
        byte* loaded = _a.JumpIfRcxZero();
        byte* field = _a.Jump();
        _a.BindShort(loaded);
        _a.Move(HostReg.Rcx, HostReg.R10);
        _cold.Add(new ColdPiece((nint)field, kind, _index, 0) { Flags = CanMakeFlags ? _recipe : default, Back = (nint)_a.Next });
    }
}

/// <summary>The encoding of an SSE, AVX or AVX-512 instruction taken apart (SDM Vol. 2A §2.1–2.3, 2.7).</summary>
internal readonly unsafe ref struct VectorEncoding
{
    public readonly bool IsVex, IsEvex, W, L, HasModRm;

    /// <summary>The three bytes behind 62h of an EVEX prefix.</summary>
    public readonly int Prefix;

    /// <summary>Opcode, map and mandatory prefix as <see cref="HostOp"/> has them.</summary>
    public readonly int Opcode;
    public readonly int Reg, Rm, Vvvv, ImmediateBytes;

    /// <summary>r/m where it is a general register, of which EVEX's fifth bit is no part.</summary>
    public int RmGpr => Rm & 15;

    public VectorEncoding(byte* p, int length)
    {
        byte* end = p + length;
        int prefix = 0, rex = 0, map;
        for (;; p++)
        {
            if (*p == 0x66)
                prefix = prefix == 0 ? HostOp.P66 : prefix;
            else if (*p == 0xF3)
                prefix = HostOp.PF3;
            else if (*p == 0xF2)
                prefix = HostOp.PF2;
            else if (*p is not (0x67 or 0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65))
                break;
        }

        if ((*p & 0xF0) == 0x40)
            rex = *p++;
        if (*p == 0x62)
        {
            IsEvex = true;
            Prefix = p[1] | p[2] << 8 | p[3] << 16;
            Opcode = p[4];
            HasModRm = true;
            p += 5;
            int high = ~Prefix;
            Reg = *p >> 3 & 7 | high >> 4 & 8 | high & 16;
            Rm = *p & 7 | high >> 2 & 8 | high >> 2 & 16;
            ImmediateBytes = HasImmediate(Prefix & 7, Opcode) ? 1 : 0;
            return;
        }

        if (*p is 0xC4 or 0xC5)
        {
            IsVex = true;
            bool three = *p == 0xC4;
            rex = three ? ~p[1] >> 5 & 7 : ~p[1] >> 5 & 4;
            map = three ? p[1] & 31 : 1;
            int last = three ? p[2] : p[1];
            W = three && (last & 0x80) != 0;
            L = (last & 4) != 0;
            Vvvv = ~last >> 3 & 15;
            prefix = (last & 3) << 12;
            p += three ? 3 : 2;
        }
        else
        {
            W = (rex & 8) != 0;
            p++;
            map = *p == 0x38 ? 2 : *p == 0x3A ? 3 : 1;
            if (map != 1)
                p++;
        }

        Opcode = *p++ | map << 8 | prefix;
        HasModRm = p < end;
        if (!HasModRm)
            return;
        Reg = *p >> 3 & 7 | (rex & 4) << 1;
        Rm = *p & 7 | (rex & 1) << 3;
        ImmediateBytes = HasImmediate(map, Opcode & 0xFF) ? 1 : 0;
    }

    private static bool HasImmediate(int map, int opcode) => map == 3 || (map == 1 && opcode is (>= 0x70 and <= 0x73) or 0xC2 or 0xC4 or 0xC5 or 0xC6);
}
