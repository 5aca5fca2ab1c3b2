using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.VectorTests;

/// <summary>Instructions that touch only some of their elements.</summary>
public sealed unsafe class MaskedTests : IDisposable
{
    private readonly VectorGuest _guest = new();

    public void Dispose() => _guest.Dispose();

    [Fact]
    public void A_gather_that_faults_keeps_what_it_has_and_goes_on_from_there()
    {
        int* table = _guest.At<int>(_guest.Unmapped - 16);
        for (int i = 0; i < 4; i++)
            table[i] = 100 + i;
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped - 16;
        Span<int> index = _guest.Xmm<int>(2), mask = _guest.Xmm<int>(3), data = _guest.Xmm<int>(1);
        (index[0], index[1], index[2], index[3]) = (0, 3, 4, 1);
        mask.Fill(-1);
        data.Fill(7);
        Assert.Matches($"#PF\\(4\\).*CR2 0x{_guest.Unmapped:X}$", _guest.Run(a => a.vpgatherdd(xmm1, __dword_ptr[rbx + xmm2 * 4], xmm3)));
        Assert.Equal([100, 103, 7, 7], _guest.Xmm<int>(1).ToArray());
        Assert.Equal([0, 0, -1, -1], _guest.Xmm<int>(3).ToArray());
        _guest.Xmm<int>(2)[2] = 2;
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped - 16;
        Assert.Null(_guest.Run(a => a.vpgatherdd(xmm1, __dword_ptr[rbx + xmm2 * 4], xmm3)));
        Assert.Equal([100, 103, 102, 101], _guest.Xmm<int>(1).ToArray());
        Assert.Equal([0, 0, 0, 0], _guest.Xmm<int>(3).ToArray());
    }

    [Fact]
    public void A_gather_with_a_register_used_twice_is_UD() =>
        Assert.StartsWith("#UD", _guest.Run(a => a.vpgatherdd(xmm1, __dword_ptr[rbx + xmm1 * 4], xmm3)));

    [Fact]
    public void Masked_loads_and_stores_touch_selected_elements_only()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped - 8;
        Span<int> mask = _guest.Xmm<int>(2);
        (mask[0], mask[1], mask[2], mask[3]) = (0, -1, 0, 1);
        _guest.Xmm<int>(1).Fill(5);
        *_guest.At<ulong>(_guest.Unmapped - 8) = 0;
        Assert.Null(_guest.Run(a =>
        {
            a.vmaskmovps(__xmmword_ptr[rbx], xmm2, xmm1);
            a.vpmaskmovd(xmm4, xmm2, __xmmword_ptr[rbx]);
        }));
        Assert.Equal(5ul << 32, *_guest.At<ulong>(_guest.Unmapped - 8));
        Assert.Equal([0, 5, 0, 0], _guest.Xmm<int>(4).ToArray());
        Assert.Equal([0, 0, 0, 0], _guest.YmmHigh<int>(4).ToArray());
    }

    [Fact]
    public void A_masked_store_that_faults_stores_nothing()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped - 8;
        _guest.Xmm<int>(2).Fill(-1);
        *_guest.At<ulong>(_guest.Unmapped - 8) = 1;
        Assert.StartsWith("#PF(6)", _guest.Run(a => a.vmaskmovps(__xmmword_ptr[rbx], xmm2, xmm1)));
        Assert.Equal(1ul, *_guest.At<ulong>(_guest.Unmapped - 8));
    }

    [Fact]
    public void MASKMOVDQU_writes_single_bytes_up_to_the_end_of_the_page()
    {
        _guest.Gpr(Gpr.Rdi) = _guest.Unmapped - 2;
        *_guest.At<ushort>(_guest.Unmapped - 2) = 0;
        Span<byte> mask = _guest.Xmm<byte>(2);
        mask.Clear();
        mask[1] = 0x80;
        _guest.Xmm<byte>(1).Fill(0x5A);
        Assert.Null(_guest.Run(a => a.maskmovdqu(xmm1, xmm2)));
        Assert.Equal(0x5A00, *_guest.At<ushort>(_guest.Unmapped - 2));
    }
}
