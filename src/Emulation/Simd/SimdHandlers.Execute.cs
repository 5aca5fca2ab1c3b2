using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Running a thunk: operands in, host code, results out.
internal static unsafe partial class SimdHandlers
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ThunkInfo* InfoOf(Op* op) => (ThunkInfo*)op->Imm;

    /// <summary>Register number of operand <paramref name="i"/> of a linked op.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int RegisterOf(Op* op, int i) => (op->RegOff | op->RmOff << 16) >> (5 * i) & 31;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static byte* PlaceOf(SoftVcpu cpu, Op* op, ThunkInfo* info, int i) => (byte*)cpu.S + info->Place[i] + (RegisterOf(op, i) << info->Shift[i]);

    /// <summary>
    /// Points the frame at the operands and brings a memory operand in. A memory destination is probed when something else would be changed before the store.
    /// </summary>
    private static bool Prepare(SoftVcpu cpu, Op* op, ThunkInfo* info, out ulong offset)
    {
        ThunkFrame* frame = cpu.Frame;
        for (int i = 0; i < info->OperandCount; i++)
            frame->Operand[i] = (ulong)PlaceOf(cpu, op, info, i);
        offset = 0;
        if (info->MemoryIndex == 0xFF)
            return true;
        frame->Operand[info->MemoryIndex] = (ulong)frame->Scratch;
        offset = cpu.EffectiveAddress(op);
        if (info->Has(ThunkFlags.Aligned) && (cpu.LinearOf(op, offset) & (ulong)(info->MemorySize - 1)) != 0)
            return cpu.Raise(Vector.GP, 0);
        if (info->Has(ThunkFlags.MemoryRead))
            return cpu.LoadOperand(op->Seg, offset, frame->Scratch, info->MemorySize);
        return (info->Flags & (ThunkFlags.MmxTransition | ThunkFlags.Mxcsr)) == 0 || cpu.ProbeWrite(op->Seg, offset, info->MemorySize);
    }

    /// <summary>Moves, integer and bit work: no MXCSR.</summary>
    private static bool ExecuteVector(SoftVcpu cpu, Op* op)
    {
        ThunkInfo* info = InfoOf(op);
        if (!cpu.VectorAvailable(info->Class) || !Prepare(cpu, op, info, out ulong offset))
            return false;
        if (info->Has(ThunkFlags.MmxTransition))
            VectorFile.EnterMmx(cpu.S);
        info->Run(cpu.Frame);
        if (info->Has(ThunkFlags.MmxTransition))
            FillExponents(cpu, op, info);
        if (info->Has(ThunkFlags.WritesFlags))
            TakeFlags(cpu);
        ClearAboveYmm(cpu, op, info);
        return !info->Has(ThunkFlags.MemoryWrite) || cpu.StoreOperand(op->Seg, offset, cpu.Frame->Scratch, info->MemorySize);
    }

    private static void TakeFlags(SoftVcpu cpu) => cpu.SetFlags(cpu.GetFlags() & ~Rflags.Status | cpu.Frame->Flags & Rflags.Status);

    /// <summary>A VEX instruction zeroes its destination up to the widest register's end, which the thunk, as wide as the instruction, does not.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void ClearAboveYmm(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        if (info->Class == VectorClass.Avx)
            ClearZmmHighs(cpu, op, info);
    }

    private static void ClearZmmHighs(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        for (int i = 0; i < info->OperandCount; i++)
        {
            if ((info->Written >> i & 1) != 0 && (OperandKind)info->Kind[i] is OperandKind.Xmm or OperandKind.Ymm)
                Unsafe.InitBlock(VectorFile.ZmmHighAt(cpu.S, RegisterOf(op, i)), 0, 32);
        }

        if (info->Has(ThunkFlags.WritesXmm0))
            Unsafe.InitBlock(VectorFile.ZmmHighAt(cpu.S, 0), 0, 32);
    }

    /// <summary>A write to an MMX register sets the bits above to ones (SDM Vol. 1 §9.2.1).</summary>
    private static void FillExponents(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        for (int i = 0; i < info->OperandCount; i++)
        {
            if ((info->Written >> i & 1) != 0 && info->Kind[i] == (byte)OperandKind.Mmx)
                *(ushort*)(PlaceOf(cpu, op, info, i) + 8) = 0xFFFF;
        }
    }

    /// <summary>Floating-point arithmetic: runs with everything masked on the host, then does what the guest's masks ask for.</summary>
    private static bool ExecuteFloat(SoftVcpu cpu, Op* op)
    {
        ThunkInfo* info = InfoOf(op);
        if (!cpu.VectorAvailable(info->Class) || !Prepare(cpu, op, info, out ulong offset))
            return false;
        if (info->Has(ThunkFlags.MmxTransition))
            VectorFile.EnterMmx(cpu.S);
        ref uint mxcsr = ref VectorFile.MxcsrOf(cpu.S);
        ThunkFrame* frame = cpu.Frame;
        frame->MxcsrIn = MaskedMxcsr(cpu, info);
        if ((mxcsr & ThunkFrame.MxcsrDefault) == ThunkFrame.MxcsrDefault)
        {
            info->Run(frame);
            mxcsr |= frame->MxcsrOut & MxcsrFlags;
        }
        else if (!RunUnmasked(cpu, op, info))
        {
            return false;
        }

        if (info->Has(ThunkFlags.MmxTransition))
            FillExponents(cpu, op, info);
        if (info->Has(ThunkFlags.WritesFlags))
            TakeFlags(cpu);
        ClearAboveYmm(cpu, op, info);
        return !info->Has(ThunkFlags.MemoryWrite) || cpu.StoreOperand(op->Seg, offset, frame->Scratch, info->MemorySize);
    }

    private const uint UnderflowFlag = 0x10, MxcsrFlags = 0x3F;

    /// <summary>Exceptions, as MXCSR's flags, that the guest has unmasked.</summary>
    private static uint UnmaskedSet(SoftVcpu cpu) => ~(VectorFile.MxcsrOf(cpu.S) >> 7) & MxcsrFlags;

    /// <summary>
    /// MXCSR for a run with everything masked and no flags. Results are flushed to zero only while underflow is masked, which it is in that run (SDM Vol. 1 §10.2.3.3); an instruction that raises nothing
    /// does as if it were.
    /// </summary>
    private static uint MaskedMxcsr(SoftVcpu cpu, ThunkInfo* info)
    {
        const uint Kept = 0x6040, FlushToZero = 0x8000;
        bool flushes = (UnmaskedSet(cpu) & UnderflowFlag) == 0 || info->Has(ThunkFlags.Silent);
        return VectorFile.MxcsrOf(cpu.S) & (flushes ? Kept | FlushToZero : Kept) | ThunkFrame.MxcsrDefault;
    }

    /// <summary>After a masked run: sets the guest's flags. False: one of them is unmasked, and the fault is recorded; one found before the operation hides those found after it (SDM Vol. 1 §11.5).</summary>
    private static bool TakeExceptions(SoftVcpu cpu, uint raised)
    {
        const uint BeforeOperation = 7;
        uint unmasked = raised & UnmaskedSet(cpu);
        VectorFile.MxcsrOf(cpu.S) |= (unmasked & BeforeOperation) != 0 ? raised & BeforeOperation : raised;
        return unmasked == 0 || cpu.Raise((cpu.S->Cr4 & Cr4.OSXMMEXCPT) != 0 ? Vector.XM : Vector.UD);
    }

    // An unmasked exception leaves the destination alone.
    private static bool RunUnmasked(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        bool tinyFaults = (UnmaskedSet(cpu) & UnderflowFlag) != 0 && info->Has(ThunkFlags.MayUnderflow);
        SaveDestination(cpu, op, info);
        info->Run(cpu.Frame);
        uint raised = cpu.Frame->MxcsrOut & MxcsrFlags;
        if (TakeExceptions(cpu, tinyFaults && IsTiny(cpu, op, info) ? raised | UnderflowFlag : raised))
            return true;
        RestoreDestination(cpu, op, info);
        return false;
    }

    private static void SaveDestination(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        if ((info->Written & 1) == 0)
            return;
        byte* place = PlaceOf(cpu, op, info, 0);
        Unsafe.CopyBlock(cpu.Frame->Saved, place, 16);
        if (info->Class == VectorClass.Avx)
            Unsafe.CopyBlock(cpu.Frame->Saved + 16, place + HighHalf, 16);
    }

    private static void RestoreDestination(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        if ((info->Written & 1) == 0)
            return;
        byte* place = PlaceOf(cpu, op, info, 0);
        Unsafe.CopyBlock(place, cpu.Frame->Saved, 16);
        if (info->Class == VectorClass.Avx)
            Unsafe.CopyBlock(place + HighHalf, cpu.Frame->Saved + 16, 16);
    }

    private const int HighHalf = VectorFile.YmmHigh - VectorFile.Xmm;

    /// <summary>Whether some element of the result is denormal.</summary>
    private static bool IsTiny(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        byte* place = info->Kind[0] == (byte)OperandKind.Memory ? cpu.Frame->Scratch : PlaceOf(cpu, op, info, 0);
        for (int i = 0; i < info->ElementCount; i++)
        {
            int at = i * info->ElementSize;
            byte* element = place + (at < 16 ? at : info->Kind[0] == (byte)OperandKind.Memory ? at : at - 16 + HighHalf);
            if (IsTiny(element, info->ElementSize))
                return true;
        }

        return false;
    }

    private static bool IsTiny(byte* element, int size) => size switch
    {
        2 => (*(ushort*)element & 0x7C00) == 0 && (*(ushort*)element & 0x3FF) != 0,
        4 => (*(uint*)element & 0x7F80_0000) == 0 && (*(uint*)element & 0x7F_FFFF) != 0,
        _ => (*(ulong*)element & 0x7FF0_0000_0000_0000) == 0 && (*(ulong*)element & 0xF_FFFF_FFFF_FFFF) != 0,
    };
}
