using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.VectorTests;

/// <summary>When vector and x87 instructions fault, and what they leave alone when they do.</summary>
public sealed unsafe class FaultTests : IDisposable
{
    private const uint ZeroDivideMask = 1 << 9, UnderflowMask = 1 << 11, InvalidMask = 1 << 7, FlushToZero = 1 << 15;
    private readonly VectorGuest _guest = new();

    public void Dispose() => _guest.Dispose();

    [Fact]
    public void An_unmasked_zero_divide_is_XM_and_leaves_the_destination()
    {
        _guest.Mxcsr = 0x1F80 & ~ZeroDivideMask;
        _guest.Xmm<float>(1)[0] = 1f;
        _guest.Xmm<float>(2)[0] = 0f;
        byte[] before = _guest.Xmm<byte>(1).ToArray();
        Assert.StartsWith("#XM", _guest.Run(a => a.divss(xmm1, xmm2)));
        Assert.Equal(before, _guest.Xmm<byte>(1).ToArray());
        Assert.Equal(4u, _guest.Mxcsr & 0x3F);
    }

    [Fact]
    public void Without_OSXMMEXCPT_the_same_is_UD()
    {
        _guest.State->Cr4 &= ~Cr4.OSXMMEXCPT;
        _guest.Mxcsr = 0x1F80 & ~ZeroDivideMask;
        _guest.Xmm<float>(1)[0] = 1f;
        _guest.Xmm<float>(2)[0] = 0f;
        Assert.StartsWith("#UD", _guest.Run(a => a.divss(xmm1, xmm2)));
    }

    [Fact]
    public void An_unmasked_exception_of_a_YMM_instruction_restores_both_halves()
    {
        _guest.Mxcsr = 0x1F80 & ~ZeroDivideMask;
        _guest.Xmm<double>(2).Fill(1);
        _guest.YmmHigh<double>(2).Fill(1);
        _guest.Xmm<double>(3).Fill(2);
        _guest.YmmHigh<double>(3).Clear();
        byte[] low = _guest.Xmm<byte>(1).ToArray(), high = _guest.YmmHigh<byte>(1).ToArray();
        Assert.StartsWith("#XM", _guest.Run(a => a.vdivpd(ymm1, ymm2, ymm3)));
        Assert.Equal(low, _guest.Xmm<byte>(1).ToArray());
        Assert.Equal(high, _guest.YmmHigh<byte>(1).ToArray());
    }

    /// <summary>So that whether underflow is unmasked, which elsewhere keeps results from being flushed to zero, is nothing to them.</summary>
    [Fact]
    public void Reciprocals_raise_nothing()
    {
        Assert.SkipUnless(Emulation.Thunks.HostFeatures.Current.Avx512, "this host has no AVX-512");
        double Reciprocal(uint mxcsr)
        {
            _guest.Mxcsr = mxcsr | FlushToZero;
            _guest.Xmm<double>(2).Fill(1.5e308);
            Assert.Null(_guest.Run(a => a.vrcp14pd(xmm1, xmm2)));
            Assert.Equal(mxcsr | FlushToZero, _guest.Mxcsr);
            return _guest.Xmm<double>(1)[0];
        }

        Assert.Equal(Reciprocal(0x1F80), Reciprocal(0x1F80 & ~UnderflowMask));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_tiny_exact_result_is_an_underflow_only_while_that_is_unmasked(bool flush)
    {
        void Set(uint mxcsr)
        {
            _guest.Mxcsr = mxcsr | (flush ? FlushToZero : 0);
            _guest.Xmm<float>(1)[0] = BitConverter.UInt32BitsToSingle(0x0080_0000);
            _guest.Xmm<float>(2)[0] = 0.5f;
        }

        Set(0x1F80);
        Assert.Null(_guest.Run(a => a.mulss(xmm1, xmm2)));
        Assert.Equal(flush ? 0u : 0x0040_0000u, BitConverter.SingleToUInt32Bits(_guest.Xmm<float>(1)[0]));
        Assert.Equal(flush ? 0x30u : 0u, _guest.Mxcsr & 0x3F);
        Set(0x1F80 & ~UnderflowMask);
        Assert.StartsWith("#XM", _guest.Run(a => a.mulss(xmm1, xmm2)));
        Assert.Equal(0x10u, _guest.Mxcsr & 0x3F);
    }

    [Fact]
    public void An_exception_before_the_operation_hides_those_after_it()
    {
        _guest.Mxcsr = 0x1F80 & ~ZeroDivideMask;
        // Element 0 divides by zero, element 1 is inexact: only the first is reported.
        _guest.Xmm<double>(1)[0] = 1;
        _guest.Xmm<double>(1)[1] = 1;
        _guest.Xmm<double>(2)[0] = 0;
        _guest.Xmm<double>(2)[1] = 3;
        Assert.StartsWith("#XM", _guest.Run(a => a.divpd(xmm1, xmm2)));
        Assert.Equal(4u, _guest.Mxcsr & 0x3F);
    }

    [Fact]
    public void COMISS_with_unmasked_invalid_leaves_the_flags()
    {
        _guest.Mxcsr = 0x1F80 & ~InvalidMask;
        _guest.Xmm<float>(1)[0] = float.NaN;
        _guest.Flags = Rflags.Fixed1 | Rflags.IF | Rflags.OF | Rflags.SF;
        Assert.StartsWith("#XM", _guest.Run(a => a.comiss(xmm1, xmm2)));
    }

    [Fact]
    public void Task_switched_is_NM_for_every_family()
    {
        Action<Assembler>[] all = [a => a.addps(xmm1, xmm2), a => a.movaps(xmm1, xmm2), a => a.paddb(mm1, mm2), a => a.fadd(st0, st1), a => a.vaddps(ymm1, ymm2, ymm3),
            a => a.fnstcw(__word_ptr[rsp]), a => a.fxsave(__[rsp]), a => a.xsave(__[rsp]), a => a.emms(), a => a.vzeroupper(), a => a.cvtpi2ps(xmm1, mm1)];
        foreach (Action<Assembler> one in all)
        {
            _guest.State->Cr0 |= Cr0.TS;
            Assert.StartsWith("#NM", _guest.Run(one));
        }

        _guest.State->Cr0 |= Cr0.TS;
        Assert.StartsWith("#NM", _guest.Run(a => a.wait()));
        _guest.State->Cr0 = _guest.State->Cr0 & ~Cr0.MP | Cr0.TS;
        Assert.Null(_guest.Run(a => a.wait()));
    }

    [Fact]
    public void Emulation_is_UD_for_SSE_and_MMX_and_NM_for_x87()
    {
        _guest.State->Cr0 |= Cr0.EM;
        Assert.StartsWith("#UD", _guest.Run(a => a.addps(xmm1, xmm2)));
        _guest.State->Cr0 |= Cr0.EM;
        Assert.StartsWith("#UD", _guest.Run(a => a.paddb(mm1, mm2)));
        _guest.State->Cr0 |= Cr0.EM;
        Assert.StartsWith("#NM", _guest.Run(a => a.fld1()));
        _guest.State->Cr0 |= Cr0.EM;
        Assert.Null(_guest.Run(a => a.vaddps(xmm1, xmm2, xmm3)));
    }

    [Fact]
    public void Control_register_bits_enable_SSE_and_AVX()
    {
        _guest.State->Cr4 &= ~Cr4.OSFXSR;
        Assert.StartsWith("#UD", _guest.Run(a => a.addps(xmm1, xmm2)));
        _guest.State->Cr4 &= ~Cr4.OSFXSR;
        Assert.Null(_guest.Run(a => a.paddb(mm1, mm2)));
        _guest.State->Cr4 &= ~Cr4.OSXSAVE;
        Assert.StartsWith("#UD", _guest.Run(a => a.vaddps(xmm1, xmm2, xmm3)));
        _guest.State->Cr4 &= ~Cr4.OSXSAVE;
        Assert.StartsWith("#UD", _guest.Run(a => a.xsave(__[rsp])));
        _guest.State->Xcr0 = Xcr0.X87 | Xcr0.Sse;
        Assert.StartsWith("#UD", _guest.Run(a => a.vzeroupper()));
    }

    [Fact]
    public void Aligned_forms_fault_on_unaligned_addresses_and_others_do_not()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data + 8;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.movaps(xmm1, __xmmword_ptr[rbx])));
        _guest.Gpr(Gpr.Rbx) = _guest.Data + 8;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.addps(xmm1, __xmmword_ptr[rbx])));
        _guest.Gpr(Gpr.Rbx) = _guest.Data + 8;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.movntdq(__xmmword_ptr[rbx], xmm1)));
        _guest.Gpr(Gpr.Rbx) = _guest.Data + 16;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.vmovdqa(ymm1, __ymmword_ptr[rbx])));
        _guest.Gpr(Gpr.Rbx) = _guest.Data + 8;
        Assert.Null(_guest.Run(a =>
        {
            a.movups(xmm1, __xmmword_ptr[rbx]);
            a.vaddps(ymm1, ymm2, __ymmword_ptr[rbx]);
            a.pcmpistri(xmm1, __xmmword_ptr[rbx], 0);
            a.lddqu(xmm1, __xmmword_ptr[rbx]);
        }));
    }

    [Fact]
    public void A_store_over_the_end_of_a_mapped_page_stores_nothing()
    {
        ulong at = _guest.Unmapped - 8;
        *_guest.At<ulong>(at) = 0x1122334455667788;
        _guest.Gpr(Gpr.Rbx) = at;
        Assert.Matches($"#PF\\(6\\).*CR2 0x{_guest.Unmapped:X}$", _guest.Run(a => a.movups(__xmmword_ptr[rbx], xmm1)));
        Assert.Equal(0x1122334455667788ul, *_guest.At<ulong>(at));
    }

    [Fact]
    public void Reserved_bits_of_MXCSR_are_GP()
    {
        *_guest.At<uint>(_guest.Data) = 0x1_1F80;
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.StartsWith("#GP(0)", _guest.Run(a => a.ldmxcsr(__dword_ptr[rbx])));
        Assert.Equal(0x1F80u, _guest.Mxcsr);
    }
}
