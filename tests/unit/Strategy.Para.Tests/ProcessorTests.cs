using VirtPS.Sdk.Machine;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>The processor that the guest's kernel sees.</summary>
public sealed class ProcessorTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    private static ulong Result => TestDomain.Scratch;

    private static TestDomain Run(Action<Iced.Intel.Assembler> code, string tier)
    {
        var d = new TestDomain(PvCode.Assemble(a =>
        {
            a.mov(r12, TestDomain.ScratchLinear);
            code(a);
            a.PowerOff(TestDomain.ScratchLinear + 0x800);
        }), run: true, tier: tier);
        Assert.True(d.Machine.WaitForEnd(Limit) is not null, d.ToString());
        Assert.True(d.Machine.State == VmState.Off, d.ToString());
        return d;
    }

    [Theory]
    [InlineData("interpreter")]
    [InlineData("translator")]
    public void Xsave_is_offered_before_the_kernel_has_switched_it_on_and_AVX_works_afterwards(string tier)
    {
        if (!Emulation.Thunks.HostFeatures.Current.Avx2)
            Assert.Skip("This host has no AVX2.");
        const uint xsave = 1u << 26, osxsave = 1u << 27, avx = 1u << 28;
        using TestDomain d = Run(a =>
        {
            a.mov(eax, 1);
            a.ForcedCpuid();
            a.mov(__dword_ptr[r12], ecx);
            a.mov(eax, 1);
            a.cpuid();
            a.mov(__dword_ptr[r12 + 4], ecx);
            a.mov(rax, cr4);
            a.or(rax, 1 << 18);
            a.mov(cr4, rax);
            a.mov(rax, cr4);
            a.mov(__qword_ptr[r12 + 8], rax);
            a.xor(ecx, ecx);
            a.xor(edx, edx);
            a.mov(eax, 7);
            a.xsetbv();
            a.xgetbv();
            a.mov(__dword_ptr[r12 + 16], eax);
            a.mov(eax, 1);
            a.xor(ecx, ecx);
            a.cpuid();
            a.mov(__dword_ptr[r12 + 20], ecx);
            a.mov(eax, 0xD);
            a.xor(ecx, ecx);
            a.cpuid();
            a.mov(__dword_ptr[r12 + 24], ebx);
            a.vpcmpeqd(ymm1, ymm1, ymm1);
            a.vpsubd(ymm2, ymm1, ymm1);
            a.vpsubd(ymm2, ymm2, ymm1);
            a.vmovdqu(__ymmword_ptr[r12 + 32], ymm2);
        }, tier);
        ulong before = d.Peek(Result), after = d.Peek(Result + 16);
        Assert.Equal(xsave | osxsave | avx, (uint)before & (xsave | osxsave | avx));
        // Not asked of Xen: a program's CPUID.
        Assert.Equal(0u, (uint)(before >> 32) & osxsave);
        Assert.NotEqual(0ul, d.Peek(Result + 8) & 1 << 18);
        Assert.Equal(7u, (uint)after);
        Assert.NotEqual(0u, (uint)(after >> 32) & osxsave);
        Assert.Equal(832u, (uint)d.Peek(Result + 24));
        for (ulong i = 0; i < 32; i += 8)
            Assert.Equal(0x1_0000_0001ul, d.Peek(Result + 32 + i));
    }

    [Fact]
    public void The_components_of_AVX_512_can_be_enabled_where_the_host_has_it()
    {
        if (!Emulation.Thunks.HostFeatures.Current.Avx512)
            Assert.Skip("This host has no AVX-512.");
        using TestDomain d = Run(a =>
        {
            a.mov(rax, cr4);
            a.or(rax, 1 << 18);
            a.mov(cr4, rax);
            a.xor(ecx, ecx);
            a.xor(edx, edx);
            a.mov(eax, 0xE7);
            a.xsetbv();
            a.xgetbv();
            a.mov(__dword_ptr[r12], eax);
            a.mov(eax, 7);
            a.xor(ecx, ecx);
            a.ForcedCpuid();
            a.mov(__dword_ptr[r12 + 4], ebx);
            a.mov(eax, 0xD);
            a.xor(ecx, ecx);
            a.cpuid();
            a.mov(__dword_ptr[r12 + 8], ebx);
        }, "interpreter");
        Assert.Equal(0xE7u, (uint)d.Peek(Result));
        Assert.NotEqual(0ul, d.Peek(Result) >> 32 & 1 << 16);
        Assert.Equal(2432u, (uint)d.Peek(Result + 8));
    }

    [Theory]
    [InlineData(0u, 6u)] // without x87
    [InlineData(0u, 5u)] // AVX without SSE
    [InlineData(0u, 0x1Fu)] // MPX, which is not offered
    [InlineData(0u, 0xE3u)] // AVX-512 without AVX
    [InlineData(0u, 0x67u)] // a part of AVX-512
    [InlineData(1u, 3u)] // another register
    public void Xsetbv_takes_only_what_is_offered(uint register, uint value)
    {
        using var d = new TestDomain(PvCode.Assemble(a =>
        {
            a.mov(rax, cr4);
            a.or(rax, 1 << 18);
            a.mov(cr4, rax);
            a.mov(ecx, register);
            a.mov(eax, value);
            a.xor(edx, edx);
            a.xsetbv();
        }), run: true);
        Assert.True(d.Machine.WaitForEnd(Limit) is not null, d.ToString());
        Assert.Contains("no handler for #GP(0x0)", d.Log.ToString(), StringComparison.Ordinal);
    }
}
