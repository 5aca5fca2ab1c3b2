using VirtPS.Opcodes;

namespace VirtPS.Emulation.Tests;

/// <summary>
/// Generated code for hosts without BMI2 and AVX. With VIRTPS_TEST_ENGINE=translator-v2 all tests run with it, and each translation is disassembled
/// (<see cref="HostLevelCheck"/>); so does the oracle's tier of that name.
/// </summary>
public sealed unsafe class HostLevelTests
{
    private static TestGuest Guest()
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var g = new TestGuest(1, TestGuest.V2);
        g.LongMode();
        return g;
    }

    /// <summary>With the flags destroyed or changed by a check, or a shift count taken wrongly, the sums differ.</summary>
    [Fact]
    public void Flags_and_registers_live_through_checks_and_branches()
    {
        using TestGuest g = Guest();
        g[Gpr.Rsi] = TestGuest.Data + 0xFF0;
        g[Gpr.Rcx] = 8;
        g.Run64(a =>
        {
            Label loop = a.CreateLabel(), f = a.CreateLabel(), end = a.CreateLabel();
            a.xor(eax, eax);
            a.xor(ebx, ebx);
            a.Label(ref loop);
            a.mov(__qword_ptr[rsi], rcx);
            a.add(rax, -1);
            a.mov(rdx, __[rsi]);
            a.adc(rbx, rdx);
            a.call(f);
            a.lea(rsi, __[rsi + 4]);
            a.dec(rcx);
            a.jne(loop);
            a.jmp(end);
            a.Label(ref f);
            a.bt(__dword_ptr[rsi], ecx);
            a.adc(rbx, 0);
            a.ret();
            a.Label(ref end);
            a.stc();
            a.pushfq();
            a.pop(r9);
        });
        ulong expected = 0;
        for (ulong i = 8; i > 0; i--)
            expected += i + (i == 8 ? 0ul : 1) + (i >> (int)i & 1);
        Assert.Equal(expected, g[Gpr.Rbx]);
        Assert.Equal(unchecked((ulong)-8), g[Gpr.Rax]);
        Assert.Equal(1ul, g[Gpr.R9] & 1);
    }

    /// <summary>Each is done in software: TZCNT would be BSF on such a host, and the others #UD or something else.</summary>
    [Fact]
    public void Instructions_that_the_host_lacks_are_the_interpreters()
    {
        using TestGuest g = Guest();
        g[Gpr.Rbx] = 0xF0;
        g.Run64(a =>
        {
            a.xor(ecx, ecx);
            a.tzcnt(rax, rcx);
            a.lzcnt(rdx, rbx);
            a.pext(rsi, rbx, rbx);
            a.andn(rdi, rbx, rbx);
            a.rorx(r8, rbx, 4);
            a.movbe(__qword_ptr[0x100000], rbx);
            a.adox(rbx, rcx);
        });
        Assert.Equal(64ul, g[Gpr.Rax]);
        Assert.Equal(56ul, g[Gpr.Rdx]);
        Assert.Equal(15ul, g[Gpr.Rsi]);
        Assert.Equal(0ul, g[Gpr.Rdi]);
        Assert.Equal(15ul, g[Gpr.R8]);
        Assert.Equal(0xF0ul << 56, g.Read<ulong>(0x100000));
    }

    /// <summary>The check itself finds what it looks for.</summary>
    [Fact]
    public void A_host_with_BMI2_gets_other_code()
    {
        Assert.SkipUnless(EngineOptions.CanTranslate && Thunks.HostFeatures.Current.Bmi2, "this host has no BMI2");
        using var g = new TestGuest(1, new EngineOptions { Translate = true, HotAfter = 0, AfterTranslation = HostLevelCheck.Check });
        g.LongMode();
        Assert.Throws<InvalidOperationException>(() => g.Run64(a => a.mov(rax, __[rbx])));
    }
}
