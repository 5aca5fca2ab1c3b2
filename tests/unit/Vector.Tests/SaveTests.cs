using CsCheck;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.Opcodes;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.VectorTests;

/// <summary>FXSAVE and the XSAVE family.</summary>
public sealed unsafe class SaveTests : IDisposable
{
    private readonly VectorGuest _guest = new();

    public void Dispose() => _guest.Dispose();

    private void Randomize(ulong seed)
    {
        MachineImage image = default;
        image.Randomize(new XorShift(seed), _guest.Stack);
        Buffer.MemoryCopy(image.Xsave, _guest.Xsave(0), 832, 832);
        new Span<byte>(_guest.At<byte>(_guest.Data), 1024).Clear();
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        _guest.Gpr(Gpr.Rax) = 7;
        _guest.Gpr(Gpr.Rdx) = 0;
    }

    private byte[] Registers() => [.. new Span<byte>(_guest.Xsave(0), 416), .. new Span<byte>(_guest.Xsave(576), 256)];

    [Fact]
    public void What_XSAVE_saves_XRSTOR_restores() => Gen.ULong.Sample(
        seed =>
        {
            Randomize(seed);
            byte[] before = Registers();
            Assert.Null(_guest.Run(a =>
            {
                a.xsave64(__[rbx]);
                a.fninit();
                a.pxor(mm1, mm2);
                a.vzeroall();
                a.xrstor64(__[rbx]);
            }));
            Assert.Equal(before, Registers());
        }, iter: 200, threads: 1);

    [Fact]
    public void What_FXSAVE_saves_FXRSTOR_restores_without_the_upper_halves() => Gen.ULong.Sample(
        seed =>
        {
            Randomize(seed);
            byte[] before = Registers()[..416];
            Assert.Null(_guest.Run(a =>
            {
                a.fxsave64(__[rbx]);
                a.fninit();
                a.vzeroall();
                a.fxrstor64(__[rbx]);
            }));
            Assert.Equal(before, Registers()[..416]);
            Assert.Equal(new byte[256], Registers()[416..]);
        }, iter: 200, threads: 1);

    [Fact]
    public void XSAVE_reports_initial_components_and_XRSTOR_initialises_them()
    {
        Randomize(5);
        Assert.Null(_guest.Run(a =>
        {
            a.vzeroupper();
            a.xsave64(__[rbx]);
        }));
        Assert.Equal(3ul, *_guest.At<ulong>(_guest.Data + 512));
        Randomize(6);
        *_guest.At<ulong>(_guest.Data + 512) = 0;
        *_guest.At<uint>(_guest.Data + 24) = 0x1F80;
        Assert.Null(_guest.Run(a => a.xrstor64(__[rbx])));
        Assert.Equal(0x37F, _guest.Fcw);
        Assert.Equal(0, _guest.Ftw);
        Assert.Equal(new byte[256], new Span<byte>(_guest.Xsave(160), 256).ToArray());
        Assert.Equal(new byte[256], Registers()[416..]);
    }

    [Fact]
    public void XSAVE_leaves_components_that_were_not_asked_for()
    {
        Randomize(7);
        _guest.Gpr(Gpr.Rax) = 4;
        new Span<byte>(_guest.At<byte>(_guest.Data), 512).Fill(0xAA);
        *_guest.At<ulong>(_guest.Data + 512) = 1;
        Assert.Null(_guest.Run(a => a.xsave64(__[rbx])));
        Assert.Equal(5ul, *_guest.At<ulong>(_guest.Data + 512));
        Assert.Equal(0xAAAAAAAAAAAAAAAA, *_guest.At<ulong>(_guest.Data));
        Assert.Equal(0xAAAAAAAAAAAAAAAA, *_guest.At<ulong>(_guest.Data + 160));
        // MXCSR goes with AVX as well.
        Assert.Equal(_guest.Mxcsr, *_guest.At<uint>(_guest.Data + 24));
        Assert.Equal(new Span<byte>(_guest.Xsave(576), 256).ToArray(), new Span<byte>(_guest.At<byte>(_guest.Data + 576), 256).ToArray());
    }

    [Fact]
    public void XSAVEOPT_does_not_write_initial_components()
    {
        Randomize(8);
        new Span<byte>(_guest.At<byte>(_guest.Data + 576), 256).Fill(0xAA);
        Assert.Null(_guest.Run(a =>
        {
            a.vzeroupper();
            a.xsaveopt64(__[rbx]);
        }));
        Assert.Equal(3ul, *_guest.At<ulong>(_guest.Data + 512));
        Assert.Equal(0xAAAAAAAAAAAAAAAA, *_guest.At<ulong>(_guest.Data + 576));
    }

    [Theory]
    [InlineData(512, 8ul)]
    [InlineData(520, 1ul)]
    [InlineData(520, 1ul << 63)]
    [InlineData(528, 1ul)]
    [InlineData(24, 0x1_0000ul)]
    public void XRSTOR_refuses_a_bad_image(int offset, ulong value)
    {
        Randomize(9);
        *_guest.At<ulong>(_guest.Data + (ulong)offset) = value;
        byte[] before = Registers();
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.xrstor64(__[rbx])));
        Assert.Equal(before, Registers());
    }

    [Theory]
    [InlineData(Code.Fxsave_m512byte, 8)]
    [InlineData(Code.Fxrstor_m512byte, 8)]
    [InlineData(Code.Xsave_mem, 16)]
    [InlineData(Code.Xrstor_mem, 32)]
    public void Areas_must_be_aligned(Code code, int offset)
    {
        Randomize(10);
        _guest.Gpr(Gpr.Rbx) += (ulong)offset;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.AddInstruction(Instruction.Create(code, new MemoryOperand(Register.RBX)))));
    }

    [Fact]
    public void A_save_area_over_an_unmapped_page_is_left_untouched()
    {
        Randomize(11);
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped - 640;
        new Span<byte>(_guest.At<byte>(_guest.Unmapped - 640), 640).Clear();
        Assert.StartsWith("#PF(6)", _guest.Run(a => a.xsave64(__[rbx])));
        Assert.Equal(new byte[640], new Span<byte>(_guest.At<byte>(_guest.Unmapped - 640), 640).ToArray());
    }

    [Fact]
    public void A_synchronized_state_names_all_its_components()
    {
        Randomize(12);
        *(ulong*)_guest.Xsave(512) = 0;
        Assert.Null(_guest.Run(a => a.vaddps(ymm1, ymm2, ymm3)));
        Assert.Equal(HostFeatures.Current.Avx512 ? 0xE7ul : 7, *(ulong*)_guest.Xsave(512));
    }
}
