using System.Runtime.Intrinsics.X86;
using CsCheck;
using Iced.Intel;
using VirtPS.Opcodes;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.VectorTests;

/// <summary>The XSAVE family with AVX-512's components: opmasks, the upper parts of ZMM0–15, ZMM16–31. None of it needs a host that has them, but for the comparison with it.</summary>
public sealed unsafe class WideSaveTests : IDisposable
{
    private const ulong All = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx | Xcr0.Avx512;
    private const int HeaderAt = 512;
    private static readonly (ulong Bit, int Offset, int Size)[] s_components =
    [
        (Xcr0.Sse, 160, 256), (Xcr0.Avx, VcpuState.YmmHighOffset, 256), (Xcr0.Opmask, VcpuState.OpmaskOffset, 64), (Xcr0.ZmmHi256, VcpuState.ZmmHighOffset, 512),
        (Xcr0.Hi16Zmm, VcpuState.HighZmmOffset, 1024),
    ];

    private readonly VectorGuest _guest = new();

    public void Dispose() => _guest.Dispose();

    /// <summary>Runs with all components enabled and <paramref name="mask"/> in EDX:EAX; RBX points to <paramref name="area"/>.</summary>
    private string? Run(Action<Assembler> code, ulong area, ulong mask = All, int bits = 64)
    {
        _guest.State->Xcr0 = All;
        _guest.Gpr(Gpr.Rbx) = area;
        (_guest.Gpr(Gpr.Rax), _guest.Gpr(Gpr.Rdx)) = ((uint)mask, mask >> 32);
        return _guest.Run(code, bits);
    }

    /// <summary>The image that the registers are loaded from: x87 initial, of the others those of <paramref name="components"/> random and the rest zero.</summary>
    private void Randomize(ulong seed, ulong components = All) => Fill(new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize), seed, components);

    private static void Fill(Span<byte> image, ulong seed, ulong components)
    {
        var random = new XorShift(seed);
        image[..VcpuState.XsaveSize].Clear();
        (image[0], image[1]) = (0x7F, 3);
        (image[24], image[25]) = (0x80, 0x1F);
        fixed (byte* p = image)
        {
            foreach ((ulong bit, int offset, int size) in s_components)
            {
                for (int i = 0; i < size && (components & bit) != 0; i += 8)
                    *(ulong*)(p + offset + i) = random.Next() | 1;
            }

            *(ulong*)(p + HeaderAt) = components & ~Xcr0.X87;
        }
    }

    private Span<byte> Area(ulong at) => new(_guest.At<byte>(at), VcpuState.XsaveSize);

    private byte[] Registers() => Registers(new ReadOnlySpan<byte>(_guest.Xsave(0), VcpuState.XsaveSize));

    private static byte[] Registers(ReadOnlySpan<byte> image) => [.. image.Slice(24, 4), .. image.Slice(160, 256), .. image[VcpuState.YmmHighOffset..]];

    [Fact]
    public void What_XSAVE_saves_XRSTOR_restores() => Gen.ULong.Sample(
        seed =>
        {
            Randomize(seed);
            byte[] before = Registers();
            Area(_guest.Data).Clear();
            Assert.Null(Run(a => a.xsave64(__[rbx]), _guest.Data));
            Assert.Equal(All & ~Xcr0.X87, *_guest.At<ulong>(_guest.Data + HeaderAt));
            Randomize(~seed);
            Assert.Null(Run(a => a.xrstor64(__[rbx]), _guest.Data));
            Assert.Equal(before, Registers());
        }, iter: 100, threads: 1);

    [Theory]
    [InlineData(Xcr0.Opmask)]
    [InlineData(Xcr0.ZmmHi256)]
    [InlineData(Xcr0.Hi16Zmm)]
    public void One_component_is_saved_and_initialised_alone(ulong component)
    {
        (_, int offset, int size) = s_components.Single(c => c.Bit == component);
        Randomize(2);
        byte[] image = new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize).ToArray();
        Area(_guest.Data).Fill(0xAA);
        *_guest.At<ulong>(_guest.Data + HeaderAt) = Xcr0.Avx;
        Assert.Null(Run(a => a.xsave64(__[rbx]), _guest.Data, component));
        byte[] expected = [.. Enumerable.Repeat((byte)0xAA, VcpuState.XsaveSize)];
        image.AsSpan(offset, size).CopyTo(expected.AsSpan(offset));
        BitConverter.TryWriteBytes(expected.AsSpan(HeaderAt), Xcr0.Avx | component);
        Assert.Equal(expected, Area(_guest.Data).ToArray());

        Area(_guest.Data).Slice(HeaderAt, 64).Clear();
        Assert.Null(Run(a => a.xrstor64(__[rbx]), _guest.Data, component));
        image.AsSpan(offset, size).Clear();
        Assert.Equal(Registers(image), Registers());
    }

    [Fact]
    public void XSAVEOPT_neither_writes_nor_needs_memory_for_what_is_initial()
    {
        // Here the page ends before ZMM16.
        ulong area = _guest.Unmapped - VcpuState.HighZmmOffset;
        Randomize(3, All & ~Xcr0.Hi16Zmm);
        new Span<byte>(_guest.At<byte>(area), VcpuState.HighZmmOffset).Clear();
        Assert.Null(Run(a => a.xsaveopt64(__[rbx]), area));
        Assert.Equal(All & ~(Xcr0.X87 | Xcr0.Hi16Zmm), *_guest.At<ulong>(area + HeaderAt));
        Randomize(4);
        Assert.Null(Run(a => a.xrstor64(__[rbx]), area));
        Assert.Equal(new byte[1024], new Span<byte>(_guest.Xsave(VcpuState.HighZmmOffset), 1024).ToArray());
    }

    [Fact]
    public void A_fault_in_the_last_component_changes_nothing()
    {
        ulong area = _guest.Unmapped - VcpuState.HighZmmOffset;
        Randomize(5);
        var memory = new Span<byte>(_guest.At<byte>(area), VcpuState.HighZmmOffset);
        memory.Clear();
        Assert.StartsWith("#PF(6)", Run(a => a.xsave64(__[rbx]), area));
        Assert.Equal(new byte[VcpuState.HighZmmOffset], memory.ToArray());
        *_guest.At<ulong>(area + HeaderAt) = All;
        *_guest.At<uint>(area + 24) = 0x1F80;
        Randomize(6);
        byte[] before = Registers();
        Assert.StartsWith("#PF(4)", Run(a => a.xrstor64(__[rbx]), area));
        Assert.Equal(before, Registers());
    }

    /// <summary>SDM Vol. 1 §13.5, §13.6: the registers that only 64-bit mode has are neither saved nor restored, and not in use.</summary>
    [Fact]
    public void Outside_64_bit_mode_there_are_eight_registers()
    {
        Randomize(7);
        byte[] image = new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize).ToArray();
        Area(_guest.Data).Fill(0xAA);
        Area(_guest.Data).Slice(HeaderAt, 64).Clear();
        Assert.Null(Run(a => a.xsave(__[ebx]), _guest.Data, bits: 32));
        Assert.Equal(All & ~(Xcr0.X87 | Xcr0.Hi16Zmm), *_guest.At<ulong>(_guest.Data + HeaderAt));
        foreach ((ulong bit, int offset, int size) in s_components)
        {
            int there = bit == Xcr0.Opmask ? size : bit == Xcr0.Hi16Zmm ? 0 : size / 2;
            Assert.Equal(image.AsSpan(offset, there).ToArray(), Area(_guest.Data).Slice(offset, there).ToArray());
            Assert.Equal(-1, Area(_guest.Data)[(offset + there)..(offset + size)].IndexOfAnyExcept((byte)0xAA));
        }

        *_guest.At<ulong>(_guest.Data + HeaderAt) = All;
        Randomize(8);
        byte[] expected = new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize).ToArray();
        foreach ((ulong bit, int offset, int size) in s_components)
            image.AsSpan(offset, bit == Xcr0.Opmask ? size : bit == Xcr0.Hi16Zmm ? 0 : size / 2).CopyTo(expected.AsSpan(offset));
        Assert.Null(Run(a => a.xrstor(__[ebx]), _guest.Data, bits: 32));
        Assert.Equal(Registers(expected), Registers());
    }

    [Theory]
    [InlineData(Xcr0.X87 | Xcr0.Sse | Xcr0.Avx, Xcr0.Opmask)]
    [InlineData(Xcr0.X87 | Xcr0.Sse | Xcr0.Avx, Xcr0.Hi16Zmm)]
    [InlineData(All, 1ul << 9)]
    public void XRSTOR_refuses_components_that_are_not_enabled(ulong enabled, ulong present)
    {
        Randomize(9);
        byte[] before = Registers();
        Area(_guest.Data).Clear();
        *_guest.At<ulong>(_guest.Data + HeaderAt) = present;
        _guest.State->Xcr0 = enabled;
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.xrstor64(__[rbx])));
        Assert.Equal(before, Registers());
    }

    /// <summary>What is asked for, in use and in memory at random, against the processor's own instructions.</summary>
    [Fact]
    public void The_host_does_the_same()
    {
        Assert.SkipUnless(Emulation.Thunks.HostFeatures.Current.Avx512 && X86Base.CpuId(0xD, 5).Ebx == VcpuState.OpmaskOffset, "needs a host with AVX-512 whose XSAVE area is laid out as AMD's");
        byte* memory = (byte*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc(3 * 4096, 4096);
        try
        {
            Gen.Select(Gen.ULong, Gen.ULong, Gen.ULong, Gen.Int[0, 2]).Sample(
                (seed, mask, used, which) => Compare(memory, seed, mask & All, used & All | Xcr0.X87, which), iter: 500, threads: 1);
        }
        finally
        {
            System.Runtime.InteropServices.NativeMemory.AlignedFree(memory);
        }
    }

    private void Compare(byte* memory, ulong seed, ulong mask, ulong used, int which)
    {
        Span<byte> set = new(memory, VcpuState.XsaveSize), area = new(memory + 4096, VcpuState.XsaveSize), after = new(memory + 8192, VcpuState.XsaveSize);
        Action<Assembler> code = which switch
        {
            0 => a => a.xsave64(__[rbx]),
            1 => a => a.xsaveopt64(__[rbx]),
            _ => a => a.xrstor64(__[rbx]),
        };
        Fill(set, seed, used);
        Fill(area, ~seed, which == 2 ? seed & All : All);
        after.Clear();
        set.CopyTo(new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize));
        area.CopyTo(Area(_guest.Data));
        Assert.Null(Run(code, _guest.Data, mask));

        ((delegate* unmanaged<byte*, byte*, ulong, byte*, void>)Native(code))(memory, memory + 4096, mask, memory + 8192);
        // What MXCSR may hold differs between processors.
        area.Slice(28, 4).CopyTo(Area(_guest.Data)[28..]);
        Assert.Equal(area.ToArray(), Area(_guest.Data).ToArray());
        // The host leaves out of its own image what is initial.
        foreach ((ulong bit, int offset, int size) in s_components)
        {
            if ((BitConverter.ToUInt64(after[HeaderAt..]) & bit) == 0)
                after.Slice(offset, size).Clear();
        }

        after[HeaderAt..VcpuState.YmmHighOffset].Clear();
        byte[] ours = new Span<byte>(_guest.Xsave(0), VcpuState.XsaveSize).ToArray();
        Assert.Equal(Registers(after), Registers(ours));
    }

    /// <summary>A function (all state, area, mask, state afterwards) around the instruction.</summary>
    private byte* Native(Action<Assembler> code)
    {
        var a = new Assembler(64);
        a.push(rbx);
        a.mov(r8, rdx);
        a.mov(rbx, rsi);
        a.mov(eax, (uint)All);
        a.xor(edx, edx);
        a.xrstor64(__[rdi]);
        a.mov(rax, r8);
        code(a);
        a.mov(eax, (uint)All);
        a.xsave64(__[rcx]);
        // As the caller has them: all exceptions masked, no upper halves.
        a.fninit();
        a.mov(__dword_ptr[rsp - 8], 0x1F80);
        a.ldmxcsr(__[rsp - 8]);
        a.vzeroupper();
        a.pop(rbx);
        a.ret();
        var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), (ulong)_guest.NativeCode);
        stream.ToArray().CopyTo(new Span<byte>(_guest.NativeCode, 4096));
        return _guest.NativeCode;
    }
}
