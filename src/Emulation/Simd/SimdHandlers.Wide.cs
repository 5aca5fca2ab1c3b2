using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using BitOperations = System.Numerics.BitOperations;

namespace VirtPS.Emulation;

// AVX-512: as the other thunks, but for operands that go through the frame, masks, and memory of which a mask may leave elements out.
internal static unsafe partial class SimdHandlers
{
    private static ulong WriteMaskOf(SoftVcpu cpu, Op* op) => VectorFile.OpmaskOf(cpu.S, (op->RegOff | op->RmOff << 16) >> 20 & 7);

    private static bool ExecuteWide(SoftVcpu cpu, Op* op)
    {
        ThunkInfo* info = InfoOf(op);
        if (!cpu.VectorAvailable(VectorClass.Avx512))
            return false;
        ulong mask = WriteMaskOf(cpu, op);
        BringIn(cpu, op, info, mask);
        ulong selected = SelectedOf(info, mask);
        if (!PrepareMemory(cpu, op, info, selected, out ulong offset))
            return false;
        if (info->Has(ThunkFlags.Mxcsr))
        {
            ulong former = info->Kind[0] == (byte)OperandKind.Gpr ? cpu.S->Gpr[RegisterOf(op, 0)] : 0;
            if (!RunFloat(cpu, info, mask))
            {
                if (info->Kind[0] == (byte)OperandKind.Gpr)
                    cpu.S->Gpr[RegisterOf(op, 0)] = former;
                return false;
            }
        }
        else
        {
            info->Run(cpu.Frame);
        }

        if (info->Has(ThunkFlags.MemoryWrite) && !StoreSelected(cpu, op, info, selected, offset))
            return false;
        if (info->Has(ThunkFlags.WritesFlags))
            TakeFlags(cpu);
        BringOut(cpu, op, info);
        return true;
    }

    private static void BringIn(SoftVcpu cpu, Op* op, ThunkInfo* info, ulong mask)
    {
        ThunkFrame* frame = cpu.Frame;
        frame->Mask[ThunkFrame.WriteMask] = mask;
        for (int i = 0; i < info->OperandCount; i++)
        {
            int register = RegisterOf(op, i);
            switch ((OperandKind)info->Kind[i])
            {
                case OperandKind.Gpr:
                    frame->Operand[i] = (ulong)(cpu.S->Gpr + register);
                    break;
                case OperandKind.Wide:
                    VectorFile.GetZmm(cpu.S, register, frame->Wide + 64 * i);
                    break;
                case OperandKind.Mask:
                    frame->Mask[i] = VectorFile.OpmaskOf(cpu.S, register);
                    break;
            }
        }
    }

    // General registers are the thunk's own to write.
    private static void BringOut(SoftVcpu cpu, Op* op, ThunkInfo* info)
    {
        ThunkFrame* frame = cpu.Frame;
        for (int i = 0; i < info->OperandCount; i++)
        {
            if ((info->Written >> i & 1) == 0)
                continue;
            int register = RegisterOf(op, i);
            if (info->Kind[i] == (byte)OperandKind.Wide)
                VectorFile.SetZmm(cpu.S, register, frame->Wide + 64 * i);
            else if (info->Kind[i] == (byte)OperandKind.Mask)
                SetMasks(cpu.S, register, frame, i, info->Has(ThunkFlags.TwoMasks));
        }
    }

    private static void SetMasks(VcpuState* s, int register, ThunkFrame* frame, int i, bool two)
    {
        if (two)
        {
            register &= ~1;
            VectorFile.OpmaskOf(s, register + 1) = frame->SecondMask;
        }

        VectorFile.OpmaskOf(s, register) = frame->Mask[i];
    }

    private static bool PrepareMemory(SoftVcpu cpu, Op* op, ThunkInfo* info, ulong selected, out ulong offset)
    {
        offset = 0;
        if (info->MemoryIndex == 0xFF)
            return true;
        cpu.Frame->Operand[info->MemoryIndex] = (ulong)cpu.Frame->Scratch;
        offset = cpu.EffectiveAddress(op);
        if (info->Has(ThunkFlags.Aligned) && (cpu.LinearOf(op, offset) & (ulong)(info->MemorySize - 1)) != 0)
            return cpu.Raise(Vector.GP, 0);
        if (info->Has(ThunkFlags.MemoryRead) && !info->Has(ThunkFlags.MemoryWrite))
            return LoadSelected(cpu, op, info, selected, offset);
        if (info->Has(ThunkFlags.FaultsUnmasked))
            return cpu.ProbeWrite(op->Seg, offset, info->MemorySize);
        for (int at = 0; NextRun(info, selected, ref at, out int length); at += length)
        {
            if (!cpu.ProbeWrite(op->Seg, offset + (ulong)at, length))
                return false;
        }

        return true;
    }

    private static bool LoadSelected(SoftVcpu cpu, Op* op, ThunkInfo* info, ulong selected, ulong offset)
    {
        for (int at = 0; NextRun(info, selected, ref at, out int length); at += length)
        {
            if (!cpu.LoadOperand(op->Seg, offset + (ulong)at, cpu.Frame->Scratch + at, length))
                return false;
        }

        return true;
    }

    private static bool StoreSelected(SoftVcpu cpu, Op* op, ThunkInfo* info, ulong selected, ulong offset)
    {
        for (int at = 0; NextRun(info, selected, ref at, out int length); at += length)
        {
            if (!cpu.StoreOperand(op->Seg, offset + (ulong)at, cpu.Frame->Scratch + at, length))
                return false;
        }

        return true;
    }

    /// <summary>The elements of the memory operand that the mask selects; where it says nothing about memory the operand is one element.</summary>
    private static ulong SelectedOf(ThunkInfo* info, ulong mask)
    {
        if (info->MaskedMemory == MaskedMemory.Whole)
            return 1;
        mask &= ulong.MaxValue >> 64 - info->MaskedCount;
        if (info->MaskedMemory == MaskedMemory.Elements)
            return mask;
        if (info->MaskedMemory == MaskedMemory.Packed)
            return mask == 0 ? 0 : ulong.MaxValue >> 64 - BitOperations.PopCount(mask);
        int elements = info->MemorySize / info->MaskedSize;
        ulong selected = 0;
        for (int at = 0; at < info->MaskedCount; at += elements)
            selected |= mask >> at;
        return selected & (1ul << elements) - 1;
    }

    /// <summary>The next bytes of the memory operand, from <paramref name="at"/> on, that the instruction accesses; false: no more.</summary>
    private static bool NextRun(ThunkInfo* info, ulong selected, ref int at, out int length)
    {
        int size = info->MaskedMemory == MaskedMemory.Whole ? info->MemorySize : info->MaskedSize, element = at / size;
        ulong rest = element >= 64 ? 0 : selected >> element;
        if (rest == 0)
        {
            length = 0;
            return false;
        }

        int gap = BitOperations.TrailingZeroCount(rest);
        at = (element + gap) * size;
        length = BitOperations.TrailingZeroCount(~(rest >> gap)) * size;
        return true;
    }

    /// <summary>Floating-point arithmetic, with the guest's masks of exceptions; the destination is in the frame until all is known (see <see cref="ExecuteFloat"/>).</summary>
    private static bool RunFloat(SoftVcpu cpu, ThunkInfo* info, ulong mask)
    {
        ThunkFrame* frame = cpu.Frame;
        bool tinyFaults = (UnmaskedSet(cpu) & UnderflowFlag) != 0 && info->Has(ThunkFlags.MayUnderflow);
        frame->MxcsrIn = MaskedMxcsr(cpu, info);
        info->Run(frame);
        uint raised = frame->MxcsrOut & MxcsrFlags;
        return TakeExceptions(cpu, tinyFaults && IsTinyWide(frame, info, mask) ? raised | UnderflowFlag : raised);
    }

    private static bool IsTinyWide(ThunkFrame* frame, ThunkInfo* info, ulong mask)
    {
        byte* place = info->Kind[0] == (byte)OperandKind.Memory ? frame->Scratch : frame->Wide;
        for (int i = 0; i < info->ElementCount; i++)
        {
            if ((!info->Has(ThunkFlags.Masked) || (mask >> i & 1) != 0) && IsTiny(place + i * info->ElementSize, info->ElementSize))
                return true;
        }

        return false;
    }
}
