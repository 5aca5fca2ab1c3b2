using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>Everything of a processor that is loaded before a sequence and compared after it.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64 + 128 + VcpuState.XsaveSize)]
internal unsafe struct MachineImage
{
    public const int FlagsOffset = 0, GprOffset = 64, XsaveOffset = 192, XsaveSize = VcpuState.XsaveSize;

    /// <summary>Components of the XSAVE area: x87, SSE and AVX; with opmasks and both parts of ZMM.</summary>
    public const ulong Narrow = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx, Wide = Narrow | Xcr0.Avx512;

    [FieldOffset(FlagsOffset)]
    public ulong Flags;
    [FieldOffset(GprOffset)]
    public fixed ulong Gpr[16];
    [FieldOffset(XsaveOffset)]
    public fixed byte Xsave[XsaveSize];

    public uint Mxcsr
    {
        readonly get
        {
            fixed (byte* x = Xsave)
                return *(uint*)(x + 24);
        }

        set
        {
            fixed (byte* x = Xsave)
                *(uint*)(x + 24) = value;
        }
    }

    /// <summary>Makes zero what the XSAVE header says is in its initial state: a saved image need not have it in memory.</summary>
    public void ClearUnused()
    {
        fixed (byte* x = Xsave)
        {
            ulong used = *(ulong*)(x + 512);
            if ((used & Xcr0.Avx) == 0)
                new Span<byte>(x + VcpuState.YmmHighOffset, 256).Clear();
            if ((used & Xcr0.Opmask) == 0)
                new Span<byte>(x + VcpuState.OpmaskOffset, 64).Clear();
            if ((used & Xcr0.ZmmHi256) == 0)
                new Span<byte>(x + VcpuState.ZmmHighOffset, 512).Clear();
            if ((used & Xcr0.Hi16Zmm) == 0)
                new Span<byte>(x + VcpuState.HighZmmOffset, 1024).Clear();
        }
    }

    public void SetGpr(int register, ulong value) => Gpr[register] = value;

    /// <summary>Random state: all floating-point exceptions masked, TF, AC and NT clear, stack pointer in the stack page.</summary>
    /// <param name="components">Those outside stay zero.</param>
    public void Randomize(XorShift random, ulong stack, ulong components = Narrow)
    {
        for (int i = 0; i < 16; i++)
            Gpr[i] = random.Interesting();
        Gpr[(int)X86.Gpr.Rsp] = stack;
        Flags = random.Next() & (Rflags.Status | Rflags.DF) | Rflags.IF | Rflags.Fixed1;
        fixed (byte* x = Xsave)
        {
            new Span<byte>(x, XsaveSize).Clear();
            *(ushort*)x = (ushort)(0x37F & ~0xF00 | random.Below(4) << 10 | random.Pick<int>([0, 2, 3, 3]) << 8);
            *(ushort*)(x + 2) = (ushort)(random.Next() & 0x7F7F);
            x[4] = random.OneIn(3) ? (byte)0xFF : (byte)random.Next();
            *(uint*)(x + 24) = 0x1F80u | (uint)(random.Next() & 0xE07F) & (random.OneIn(2) ? ~0u : 0x603Fu);
            for (int i = 0; i < 8; i++)
                RandomExtended(random, x + 32 + 16 * i);
            FillVectors(random, x + 160, 256);
            FillVectors(random, x + 576, 256);
            if (components == Wide)
                RandomWide(random, x);
            *(ulong*)(x + 512) = components;
        }
    }

    // In half of all images what is above the YMM registers is zero: the emulator, as processors do, treats that as a state of its own.
    private static void RandomWide(XorShift random, byte* xsave)
    {
        bool masks = !random.OneIn(4);
        for (int i = 0; i < 8 && masks; i++)
            *(ulong*)(xsave + VcpuState.OpmaskOffset + 8 * i) = RandomMask(random);
        int upper = random.Below(8);
        if (upper is 4 or 6 or 7)
            FillVectors(random, xsave + VcpuState.ZmmHighOffset, 512);
        if (upper is 5 or 6 or 7)
            FillVectors(random, xsave + VcpuState.HighZmmOffset, 1024);
    }

    /// <summary>All elements, none, one, some, the first few, or any.</summary>
    public static ulong RandomMask(XorShift random) => random.Below(7) switch
    {
        0 => ulong.MaxValue,
        1 => 0,
        2 => 1ul << random.Below(random.OneIn(2) ? 64 : 8),
        3 => random.Next() & random.Next() & random.Next(),
        4 => (1ul << random.Below(random.OneIn(2) ? 64 : 16)) - 1,
        _ => random.Next(),
    };

    // Ten-byte values of every class, unsupported encodings among them.
    private static void RandomExtended(XorShift random, byte* to)
    {
        ulong mantissa = random.Next();
        int exponent = random.Below(0x8000);
        switch (random.Below(10))
        {
            case 0: (mantissa, exponent) = (0, 0); break;
            case 1: exponent = 0; mantissa &= ulong.MaxValue >> 1; break;
            case 2: exponent = 0x7FFF; mantissa = 1ul << 63; break;
            case 3: exponent = 0x7FFF; mantissa |= 1ul << 63; break;
            case 4: break;
            case 5: (mantissa, exponent) = (0xFFFF_FFFF_FFFF_FFFF << random.Below(64), 0x3FFF + random.Below(64)); break;
            default: mantissa |= 1ul << 63; exponent = 0x3FFF - 40 + random.Below(80); break;
        }

        *(ulong*)to = mantissa;
        *(ushort*)(to + 8) = (ushort)(exponent | (int)(random.Next() & 0x8000));
    }

    /// <summary>Fills with integers, floats and doubles of every class.</summary>
    public static void FillVectors(XorShift random, byte* to, int size)
    {
        for (int i = 0; i < size; i += 8)
        {
            *(ulong*)(to + i) = random.Below(6) switch
            {
                0 => Single(random) | (ulong)Single(random) << 32,
                1 => Single(random) | (ulong)Single(random) << 32,
                2 => Double(random),
                3 => Double(random),
                4 => random.Interesting(),
                _ => random.Next(),
            };
        }
    }

    private static uint Single(XorShift random)
    {
        uint sign = (uint)random.Next() & 0x8000_0000, mantissa = (uint)random.Next() & 0x7F_FFFF;
        return sign | random.Below(10) switch
        {
            0 => 0u,
            1 => mantissa,
            2 => 0x7F80_0000u,
            3 => 0x7F80_0000u | mantissa,
            4 => (uint)random.Below(256) << 23 | mantissa,
            5 => BitConverter.SingleToUInt32Bits(random.Below(1000)),
            _ => (uint)(127 - 12 + random.Below(48)) << 23 | mantissa,
        };
    }

    private static ulong Double(XorShift random)
    {
        ulong sign = random.Next() & 1ul << 63, mantissa = random.Next() >> 12;
        return sign | random.Below(10) switch
        {
            0 => 0ul,
            1 => mantissa,
            2 => 0x7FFul << 52,
            3 => 0x7FFul << 52 | mantissa,
            4 => (ulong)random.Below(2048) << 52 | mantissa,
            5 => BitConverter.DoubleToUInt64Bits(random.Below(100000)),
            _ => (ulong)(1023 - 20 + random.Below(90)) << 52 | mantissa,
        };
    }
}
