using Iced.Intel;
using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;

namespace VirtPS.VectorTests;

/// <summary>Every vector form that the host lends is implemented, and the 128-bit exchange is atomic.</summary>
public sealed unsafe class CoverageTests
{
    [Fact]
    public void Every_offered_form_has_a_handler()
    {
        List<Code> missing = [];
        int count = 0;
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (!info.IsInstruction || info.Encoding is not (EncodingKind.Legacy or EncodingKind.VEX) || info.Fwait || !Array.TrueForAll(code.CpuidFeatures(), HostFeatures.Current.Offers))
                continue;
            count++;
            if (!HandlerTable.Implements(code))
                missing.Add(code);
        }

        Assert.True(missing.Count == 0, $"{missing.Count} of {count} without a handler: {string.Join(' ', missing)}");
        Assert.True(count > 500, $"only {count} forms are offered on this host");
    }

    [Fact]
    public void What_the_host_does_not_lend_is_not_implemented()
    {
        var nothing = new HostFeatures();
        Assert.Empty(VectorCodes.All(nothing));
        Assert.DoesNotContain(VectorCodes.All(HostFeatures.Current with { Avx2 = false }), c => c.CpuidFeatures().Contains(CpuidFeature.AVX2));
    }

    [Fact]
    public void The_128_bit_exchange_loses_no_increment()
    {
        Assert.SkipUnless(Atomic128.IsSupported, "the host has no CMPXCHG16B");
        const int Threads = 4, Each = 50_000;
        ulong* cell = (ulong*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc(16, 16);
        (cell[0], cell[1]) = (ulong.MaxValue - 1000, 0);
        var threads = new Thread[Threads];
        for (int t = 0; t < Threads; t++)
        {
            threads[t] = new Thread(() =>
            {
                ulong* expected = stackalloc ulong[2];
                for (int i = 0; i < Each; i++)
                {
                    (expected[0], expected[1]) = (Volatile.Read(ref cell[0]), Volatile.Read(ref cell[1]));
                    while (!Atomic128.Instance.CompareExchange(cell, expected, expected[0] + 1, expected[1] + (expected[0] == ulong.MaxValue ? 1ul : 0)))
                    {
                    }
                }
            });
            threads[t].Start();
        }

        foreach (Thread thread in threads)
            thread.Join();
        Assert.Equal(1ul, cell[1]);
        Assert.Equal(Threads * Each - 1001ul, cell[0]);
        System.Runtime.InteropServices.NativeMemory.AlignedFree(cell);
    }
}
