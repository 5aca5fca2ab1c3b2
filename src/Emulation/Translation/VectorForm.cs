using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>What of a vector instruction's form must be known to execute it by the host's own one.</summary>
internal readonly record struct VectorForm(bool IsUsable, MemoryUse Memory, int MemorySize, bool Aligned, GprRole Reg, GprRole Rm, bool WritesFlags, bool Wide)
{
    private static readonly VectorForm s_unusable = new(false, MemoryUse.None, 0, false, GprRole.None, GprRole.None, false, false);

    /// <summary>
    /// Looks at one instruction of the form. Not usable: x87 and MMX, which share registers that generated code does not hold; what touches memory element by element;
    /// and what loads or stores control and state.
    /// </summary>
    public static VectorForm Of(in Instruction i, InstructionInfoFactory facts)
    {
        if (i.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX or EncodingKind.EVEX) || i.IsVsib || !HandlerTable.Implements(i.Code) || IsLeftOut(i.Mnemonic))
            return s_unusable;
        VectorClass kind = ThunkFacts.ClassOf(i);
        if (kind is not (VectorClass.Sse or VectorClass.Avx or VectorClass.Avx512))
            return s_unusable;
        InstructionInfo info = facts.GetInfo(i);
        bool vector = i.Mnemonic is Mnemonic.Vzeroupper or Mnemonic.Vzeroall;
        var memory = MemoryUse.None;
        GprRole reg = GprRole.None, rm = GprRole.None;
        for (int k = 0; k < i.OpCount; k++)
        {
            bool written = info.GetOpAccess(k) is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;
            if (i.GetOpKind(k) == OpKind.Memory)
            {
                memory = written ? MemoryUse.Write : MemoryUse.Read;
            }
            else if (i.GetOpKind(k) == OpKind.Register)
            {
                Register r = i.GetOpRegister(k);
                vector |= r.IsVectorRegister() || r.IsK();
                if (!r.IsGPR())
                    continue;
                GprRole role = written ? GprRole.Written : GprRole.Read;
                if (OperandLayout.Slot(i.Code, k) == OperandSlot.Reg)
                    reg = role;
                else
                    rm = role;
            }
        }

        int size = memory == MemoryUse.None ? 0 : i.MemorySize.GetSize();
        if (!vector || (memory != MemoryUse.None && size is not (1 or 2 or 4 or 8 or 16 or 32 or 64)))
            return s_unusable;
        return new VectorForm(true, memory, size, memory != MemoryUse.None && ThunkFacts.MustBeAligned(i), reg, rm, i.RflagsModified != RflagsBits.None, kind == VectorClass.Avx512);
    }

    /// <summary>
    /// Means something else in 32-bit code, though encoded alike: VEX.W, which makes a general register, or what stands for one, 64 bits wide, is ignored there; and
    /// VZEROALL and VZEROUPPER know eight registers only. EVEX-encoded instructions, of which all this holds, too, are left to the interpreter there.
    /// </summary>
    public static unsafe bool DiffersIn32(Op* op)
    {
        if (op->Code.Encoding() == EncodingKind.EVEX)
            return true;
        if (!op->Has(OpFlags.Vex))
            return false;
        if (op->Code is Code.VEX_Vzeroall or Code.VEX_Vzeroupper)
            return true;
        var e = new VectorEncoding(VirtPS.Emulation.Op.Bytes(op), op->Length);
        int map = e.Opcode & HostOp.MapMask;
        return e.W && (map == HostOp.Map0F || (map == HostOp.Map0F3A && (e.Opcode & 0xFF) is >= 0x14 and <= 0x22));
    }

    private static bool IsLeftOut(Mnemonic m) => m is Mnemonic.Ldmxcsr or Mnemonic.Stmxcsr or Mnemonic.Vldmxcsr or Mnemonic.Vstmxcsr or Mnemonic.Maskmovdqu or Mnemonic.Vmaskmovdqu
        or Mnemonic.Vmaskmovps or Mnemonic.Vmaskmovpd or Mnemonic.Vpmaskmovd or Mnemonic.Vpmaskmovq or Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fxrstor or Mnemonic.Fxrstor64;
}

/// <summary>What a vector instruction does with a general register.</summary>
internal enum GprRole : byte
{
    None,
    Read,
    Written,
}
