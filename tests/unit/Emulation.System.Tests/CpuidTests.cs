using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Emulation.SystemTests.Guest32;

namespace VirtPS.Emulation.SystemTests;

/// <summary>What the levels of the modelled processor offer, on hosts that have AVX-512 and that have not.</summary>
public unsafe class CpuidTests
{
    private static readonly HostFeatures s_avx2 = new()
    {
        Sse2 = true, Sse3 = true, Ssse3 = true, Sse41 = true, Sse42 = true, Avx = true, Avx2 = true, Fma = true, F16c = true, Aes = true, Pclmulqdq = true, Sha = true, Cmpxchg16b = true,
    };

    private static readonly HostFeatures s_avx512 = s_avx2 with
    {
        Avx512 = true, Avx512Ifma = true, Avx512Vbmi = true, Avx512Vbmi2 = true, Avx512Vnni = true, Avx512Bitalg = true, Avx512Vpopcntdq = true, Avx512Vp2intersect = true, Avx512Bf16 = true,
        AvxVnni = true, Gfni = true, Vaes = true, Vpclmulqdq = true,
    };

    /// <summary>SDM Vol. 2A, CPUID leaf 7.</summary>
    private const uint Foundation = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31, Ifma = 1u << 21,
        Ecx = 1u << 1 | 1u << 6 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 14, Vp2Intersect = 1u << 8, SubLeafOne = 1u << 4 | 1u << 5;

    [Fact]
    public void Level_4_is_AVX_512_with_its_extensions()
    {
        CpuidPolicy p = CpuidModel.Create(1, s_avx512);
        CpuidResult seven = p.Query(7, 0);
        Assert.Equal((1u, Foundation | Ifma, Ecx, Vp2Intersect), (seven.Eax, seven.Ebx & (Foundation | Ifma), seven.Ecx & Ecx, seven.Edx & Vp2Intersect));
        Assert.Equal(new CpuidResult(SubLeafOne, 0, 0, 0), p.Query(7, 1));
        CpuidResult older = CpuidModel.Create(1, s_avx512, CpuLevel.V3).Query(7, 0);
        Assert.Equal((0u, seven.Ebx & ~(Foundation | Ifma), seven.Ecx & ~Ecx, seven.Edx & ~Vp2Intersect), (older.Eax, older.Ebx, older.Ecx, older.Edx));
    }

    [Fact]
    public void Without_AVX_512_in_the_host_level_4_is_level_3()
    {
        Assert.Equal(CpuidModel.Create(1, s_avx2, CpuLevel.V3).Entries.OrderBy(e => e.Key), CpuidModel.Create(1, s_avx2, CpuLevel.V4).Entries.OrderBy(e => e.Key));
        // What is of that level and needs no AVX-512 is offered by itself.
        CpuidPolicy p = CpuidModel.Create(1, s_avx2 with { Gfni = true, AvxVnni = true });
        Assert.Equal((1u, 1u << 8, 0u), (p.Query(7, 0).Eax, p.Query(7, 0).Ecx & Ecx, p.Query(7, 0).Ebx & Foundation));
        Assert.Equal(1u << 4, p.Query(7, 1).Eax);
        Assert.Equal(832u, p.Query(0xD, 0).Ecx);
    }

    /// <summary>The places are those of AMD's processors, in which no gap is left for MPX.</summary>
    [Fact]
    public void The_save_area_has_the_components_that_are_offered()
    {
        CpuidPolicy p = CpuidModel.Create(1, s_avx512);
        Assert.Equal(new CpuidResult(0xE7, 576, 2432, 0), p.Query(0xD, 0));
        Assert.Equal([new(256, 576, 0, 0), new(64, 832, 0, 0), new(512, 896, 0, 0), new(1024, 1408, 0, 0)], ((uint[])[2, 5, 6, 7]).Select(n => p.Query(0xD, n)));
        CpuidPolicy older = CpuidModel.Create(1, s_avx512, CpuLevel.V3);
        Assert.Equal(new CpuidResult(7, 576, 832, 0), older.Query(0xD, 0));
        Assert.Equal([default, default, default], ((uint[])[5, 6, 7]).Select(n => older.Query(0xD, n)));
        Assert.Equal(new CpuidResult(3, 576, 576, 0), CpuidModel.Create(1, s_avx512, CpuLevel.V2).Query(0xD, 0));
    }

    [Theory]
    [InlineData(1u, 576u)]
    [InlineData(3u, 576u)]
    [InlineData(7u, 832u)]
    [InlineData(0xE7u, 2432u)]
    public void The_save_areas_size_follows_XCR0(uint xcr0, uint size)
    {
        Assert.SkipUnless(xcr0 < 4 || (xcr0 < 8 ? HostFeatures.Current.Avx : HostFeatures.Current.Avx512), "the host does not have the components");
        using var g = new Guest32();
        g.Start(0, a =>
        {
            a.xor(ecx, ecx);
            a.xor(edx, edx);
            a.mov(eax, xcr0);
            a.xsetbv();
            a.mov(eax, 0xD);
            a.cpuid();
            a.mov(__dword_ptr[DataBase], ebx);
            a.hlt();
        });
        g.S->Cr4 = Cr4.OSXSAVE;
        g.Commit();
        g.RunToHalt();
        Assert.Equal((size, (ulong)xcr0), (g.Read32(DataBase), g.S->Xcr0));
    }
}
