using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// AVX-512 gathers and scatters (SDM Vol. 2C, VPGATHERDD, VPSCATTERDD). Elements complete one by one, lowest first, and each clears its mask bit: a fault leaves those before it done,
// and the restarted instruction goes on where it stopped.
internal static unsafe partial class SimdHandlers
{
    private static delegate*<SoftVcpu, Op*, bool> WideHandlerOf(Code code) => code.Mnemonic() switch
    {
        Mnemonic.Vpgatherdd or Mnemonic.Vgatherdps => &WideGather44,
        Mnemonic.Vpgatherdq or Mnemonic.Vgatherdpd => &WideGather48,
        Mnemonic.Vpgatherqd or Mnemonic.Vgatherqps => &WideGather84,
        Mnemonic.Vpgatherqq or Mnemonic.Vgatherqpd => &WideGather88,
        Mnemonic.Vpscatterdd or Mnemonic.Vscatterdps => &Scatter44,
        Mnemonic.Vpscatterdq or Mnemonic.Vscatterdpd => &Scatter48,
        Mnemonic.Vpscatterqd or Mnemonic.Vscatterqps => &Scatter84,
        Mnemonic.Vpscatterqq or Mnemonic.Vscatterqpd => &Scatter88,
        _ => &Link,
    };

    private static bool WideGather44(SoftVcpu cpu, Op* op) => GatherWide(cpu, op, 4, 4);

    private static bool WideGather48(SoftVcpu cpu, Op* op) => GatherWide(cpu, op, 4, 8);

    private static bool WideGather84(SoftVcpu cpu, Op* op) => GatherWide(cpu, op, 8, 4);

    private static bool WideGather88(SoftVcpu cpu, Op* op) => GatherWide(cpu, op, 8, 8);

    private static bool Scatter44(SoftVcpu cpu, Op* op) => Scatter(cpu, op, 4, 4);

    private static bool Scatter48(SoftVcpu cpu, Op* op) => Scatter(cpu, op, 4, 8);

    private static bool Scatter84(SoftVcpu cpu, Op* op) => Scatter(cpu, op, 8, 4);

    private static bool Scatter88(SoftVcpu cpu, Op* op) => Scatter(cpu, op, 8, 8);

    /// <summary>Mask register and number of elements, from the prefix's last byte.</summary>
    private static int ElementsOf(Op* op, int widest, out int mask)
    {
        byte* p = Op.Bytes(op);
        while (*p != 0x62)
            p++;
        mask = p[3] & 7;
        return (16 << (p[3] >> 5 & 3)) / widest;
    }

    private static ulong ElementOffset(SoftVcpu cpu, Op* op, byte* indices, int i, int indexSize)
    {
        long at = indexSize == 4 ? ((int*)indices)[i] : ((long*)indices)[i];
        return (op->Base == 0xFF ? 0 : cpu.S->Gpr[op->Base]) + (ulong)op->Disp + ((ulong)at << op->Scale) & op->AddrMask;
    }

    private static bool GatherWide(SoftVcpu cpu, Op* op, int indexSize, int dataSize)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx512))
            return false;
        if (op->Reg == op->Index)
            return cpu.Raise(Vector.UD);
        byte* data = stackalloc byte[64];
        bool done = MoveElements(cpu, op, data, indexSize, dataSize, gather: true, out int width);
        // A fault does not come to the upper parts.
        if (done)
            new Span<byte>(data + width, 64 - width).Clear();
        VectorFile.SetZmm(cpu.S, op->Reg, data);
        return done;
    }

    private static bool Scatter(SoftVcpu cpu, Op* op, int indexSize, int dataSize)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx512))
            return false;
        byte* data = stackalloc byte[64];
        return MoveElements(cpu, op, data, indexSize, dataSize, gather: false, out _);
    }

    /// <summary>The selected elements between memory and the register in <paramref name="data"/>, which is brought in; <paramref name="width"/> is what they take of it. False: a fault.</summary>
    private static bool MoveElements(SoftVcpu cpu, Op* op, byte* data, int indexSize, int dataSize, bool gather, out int width)
    {
        byte* indices = stackalloc byte[64];
        VectorFile.GetZmm(cpu.S, op->Reg, data);
        VectorFile.GetZmm(cpu.S, op->Index, indices);
        int count = ElementsOf(op, Math.Max(indexSize, dataSize), out int register);
        width = count * dataSize;
        ref ulong mask = ref VectorFile.OpmaskOf(cpu.S, register);
        for (int i = 0; i < count; i++)
        {
            if ((mask >> i & 1) == 0)
                continue;
            ulong offset = ElementOffset(cpu, op, indices, i, indexSize), value;
            byte* element = data + i * dataSize;
            if (gather ? !cpu.LoadOperand(op->Seg, offset, (byte*)&value, dataSize) : !cpu.StoreOperand(op->Seg, offset, element, dataSize))
                return false;
            if (gather)
                new ReadOnlySpan<byte>(&value, dataSize).CopyTo(new Span<byte>(element, dataSize));
            mask &= ~(1ul << i);
        }

        mask = 0;
        return true;
    }
}
