using System.Text;

namespace VirtPS.Emulation.Tests;

/// <summary>
/// The host code of a list of guest instructions, on file: a change in what is generated is a reviewable difference. VIRTPS_UPDATE_GOLDEN=1 writes it anew.
/// </summary>
public sealed unsafe class GoldenCodeTests
{
    internal static readonly (string Name, Action<Assembler> Code)[] Cases =
    [
        ("registers are renamed", a => { a.add(rax, r15); a.sub(r9, rsp); a.xor(r10d, r11d); a.mov(cl, ah); }),
        ("load, flags live", a => a.mov(rax, __[rbx])),
        ("load with index and displacement", a => a.mov(edx, __dword_ptr[rsi + rcx * 4 + 0x1234])),
        ("store of a register that is in memory", a => a.mov(__[rdi], r10)),
        ("load from an address in the code", a => a.mov(rcx, __qword_ptr[0x12345])),
        ("FS segment", a => a.mov(rax, __qword_ptr.fs[rax])),
        ("read, change, write", a => a.add(__dword_ptr[rdx + 8], 5)),
        ("locked", a => { a.@lock.xadd(__[rbp], rax); }),
        ("flags free and makeable again", a => { a.cmp(rax, 7); a.mov(rbx, __[rcx]); a.test(rbx, rbx); }),
        ("one check for several", a => { a.push(rbp); a.push(rbx); a.push(r12); a.mov(rbx, __[rsp + 16]); }),
        ("push, pop", a => { a.push(r9); a.pop(rdx); }),
        ("division", a => a.div(rsi)),
        ("signed division", a => a.idiv(__dword_ptr[rbx])),
        ("interrupt flag", a => { a.cli(); a.sti(); }),
        ("serialization", a => a.serialize()),
        ("bits of a string in memory", a => { a.bts(__qword_ptr[rdi], rax); a.@lock.btr(__dword_ptr[rbx + rsi * 4 + 16], ecx); }),
        ("GS bases", a => a.swapgs()),
        ("flags pushed", a => a.pushfq()),
        ("direction flag", a => { a.std(); a.cld(); }),
        ("string instruction, flags live", a => a.movsq()),
        ("string comparison", a => { a.cmpsb(); a.scasd(); }),
        ("string load and store, flags free", a => { a.lodsb(); a.stosw(); a.test(rax, rax); }),
        ("repeated move", a => a.rep.movsb()),
        ("repeated store, flags made by what it changes", a => { a.cmp(rdi, 5); a.rep.stosq(); a.test(rax, rax); }),
        ("repeated comparison", a => a.repne.scasb()),
        ("repeated comparison of two", a => a.repe.cmpsd()),
        ("x87", a => { a.fld(__qword_ptr[rbx]); a.fmul(st0, st1); a.fistp(__dword_ptr[rbx + 8]); }),
        ("x87 comparison and move, flags", a => { a.fcomi(st0, st1); a.fcmovb(st0, st2); a.fnstsw(ax); }),
        ("x87 control word", a => { a.fnstcw(__word_ptr[rsp]); a.fldcw(__word_ptr[rsp + 2]); }),
        ("MMX", a => { a.movd(mm1, r9d); a.paddb(mm1, __qword_ptr[rsi]); a.pmovmskb(eax, mm1); a.emms(); }),
        ("left to the interpreter", a => a.cpuid()),
        ("loop to itself", a => { Label l = a.CreateLabel(); a.Label(ref l); a.mov(rax, __[rsi]); a.add(rsi, 8); a.cmp(rsi, rdi); a.jb(l); }),
        ("loop that only counts", a => { Label l = a.CreateLabel(), done = a.CreateLabel(); a.Label(ref l); a.cmp(rdi, r9); a.jb(done); a.inc(rdi); a.add(edx, 2); a.cmp(edx, eax); a.jl(l); a.Label(ref done); a.nop(); }),
        ("loop over a table", a =>
        {
            Label l = a.CreateLabel();
            a.Label(ref l);
            a.movzx(ecx, __byte_ptr[rdx]);
            a.add(rdx, 1);
            a.xor(ecx, eax);
            a.shr(eax, 8);
            a.movzx(ecx, cl);
            a.xor(eax, __dword_ptr[r8 + rcx * 4]);
            a.cmp(rdi, rdx);
            a.jne(l);
        }),
        ("call and return", a => { a.call(0x10100); }),
        ("return", a => a.ret()),
        ("indirect jump", a => a.jmp(rax)),
        ("indirect jump through memory", a => a.jmp(__qword_ptr[rbx + 8])),
        ("run of instructions on R9 to R11", a => { a.mov(r9, rax); a.add(r9, r10); a.xor(r11d, r9d); a.shl(r10, 3); a.sub(r10, r11); a.imul(rdx, r9, 5); a.cmp(r11, r10); a.cmovb(r9, rcx); a.setb(r11b); }),
        ("run of instructions on R9 to R11, and memory", a => { a.inc(r9); a.mov(rax, __[rsi]); a.add(r9, rax); a.mov(r10, __[rsi + 8]); a.add(r10, r9); a.mov(__[rsi + 16], r10); }),
        ("one check for two accesses by R10", a => { a.mov(rax, __[r10 + 8]); a.add(r10, 16); a.mov(__[r10 + 8], rdx); }),
        ("one check for two accesses relative to RIP", a =>
        {
            Label first = a.CreateLabel(), second = a.CreateLabel();
            a.mov(rax, __qword_ptr[first]);
            a.add(__qword_ptr[second], rax);
            a.ud2();
            a.Label(ref first);
            a.dq(1);
            a.Label(ref second);
            a.dq(2);
        }),
        ("operands of flags put aside", a => { a.cmp(eax, ebx); a.lea(rax, __[rsi + 8]); a.mov(rcx, __[rax]); a.mov(rdx, __[rcx]); a.test(rbx, rbx); }),
        ("flags saved for several checks", a => { a.shr(rax, 3); a.mov(rbx, __[rcx]); a.mov(rdx, __[rsi]); a.mov(__[rdi], rbp); a.test(rbx, rbx); }),
        ("jump and what follows", a =>
        {
            Label there = a.CreateLabel();
            a.cmp(rax, rbx);
            a.jmp(there);
            a.ud2();
            a.Label(ref there);
            a.mov(rcx, __[rdx]);
            a.test(rcx, rcx);
        }),
        ("two chains of carries", a =>
        {
            // As Montgomery multiplications have it, written out eight times.
            Label l = a.CreateLabel();
            a.Label(ref l);
            a.mov(rbx, r8);
            a.mulx(rax, r8, __[rbp]);
            a.adcx(rbx, rax);
            a.adox(r8, r9);
            a.mulx(rax, r9, __[rbp + 8]);
            a.adcx(r8, rax);
            a.adox(r9, r10);
            a.mulx(rax, r10, __[rbp + 16]);
            a.adcx(r9, rax);
            a.adox(r10, r11);
            a.mov(__[rdi + rcx * 8], rbx);
            a.mov(ebx, 0);
            a.adcx(r10, rax);
            a.adox(r11, r12);
            a.inc(rcx);
            a.jne(l);
        }),
    ];

    /// <summary>AVX-512.</summary>
    private static readonly (string Name, Action<Assembler> Code)[] s_casesWide =
    [
        ("EVEX, registers", a => a.vpaddd(zmm1, zmm2, zmm3)),
        ("EVEX, a general register", a => a.vpbroadcastq(zmm1, r9)),
        ("EVEX, a register that only it has, broadcast from memory", a => a.vpaddd(zmm17, zmm2, __dword_bcst[rdi + 4])),
        ("EVEX, load", a => a.vmovdqu64(zmm5, __zmmword_ptr[rsi + 64])),
        ("EVEX, masked load", a => a.vmovdqu32(zmm1.k1.z, __zmmword_ptr[rsi])),
        ("EVEX, masked store", a => a.vmovdqu8(__ymmword_ptr[rdi].k2, ymm18)),
        ("EVEX, one check for two accesses", a => { a.vmovdqu64(zmm5, __zmmword_ptr[rsi]); a.vmovdqu64(__zmmword_ptr[rsi + 64], zmm5); }),
        ("masks and general registers", a => { a.kmovq(k1, r9); a.kmovd(eax, k1); a.kmovq(r11, k2); }),
        ("masks, flags", a => { a.kortestq(k1, k2); a.setb(al); }),
    ];

    /// <summary>In 32-bit code with flat segments.</summary>
    private static readonly (string Name, Action<Assembler> Code)[] s_cases32 =
    [
        ("32 bits: one-byte INC and DEC", a => { a.inc(eax); a.dec(esp); }),
        ("32 bits: load, flags live", a => a.mov(eax, __[ebx])),
        ("32 bits: store with index", a => a.mov(__[esp + ecx * 4 + 8], edx)),
        ("32 bits: MOV with an address of its own", a => a.mov(eax, __dword_ptr[0x12345678])),
        ("32 bits: push, pop, leave", a => { a.push(ebp); a.push(5); a.pop(edx); a.leave(); }),
        ("32 bits: flags free", a => { a.mov(eax, __[esi]); a.add(eax, ebx); }),
        ("32 bits: flags pushed", a => a.pushfd()),
        ("32 bits: call", a => a.call(0x10100)),
        ("32 bits: return", a => a.ret(4)),
        ("32 bits: jump by a table", a => a.jmp(__dword_ptr[eax * 4 + 0x12345678])),
        ("32 bits: count", a => { Label l = a.CreateLabel(); a.Label(ref l); a.nop(); a.loop(l); }),
        ("32 bits: FS segment, which has 4 GiB", a => a.mov(eax, __dword_ptr.fs[0x10])),
    ];

    [Fact]
    public void The_host_code_is_what_is_on_file()
    {
        Assert.SkipUnless(Thunks.HostFeatures.Current is { Avx2: true, Bmi2: true }, "this host gets other code");
        // The stubs, to which calls have their distances, are longer where the host has AVX-512.
        Compare("translation.txt", new EngineOptions { Translate = true, HotAfter = 0, Host = Thunks.HostFeatures.Current.LimitedTo(CpuLevel.V3) }, Cases, s_cases32);
    }

    [Fact]
    public void The_host_code_with_AVX_512_is_what_is_on_file()
    {
        Assert.SkipUnless(Thunks.HostFeatures.Current is { Avx512: true, Bmi2: true }, "this host gets other code");
        Compare("translation-v4.txt", new EngineOptions { Translate = true, HotAfter = 0 }, s_casesWide, []);
    }

    /// <summary>The same instructions for hosts without BMI2.</summary>
    [Fact]
    public void The_host_code_without_BMI2_is_what_is_on_file() => Compare("translation-v2.txt", TestGuest.V2, Cases, s_cases32);

    private static void Compare(string file, EngineOptions engine, (string Name, Action<Assembler> Code)[] cases, (string Name, Action<Assembler> Code)[] cases32)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var text = new StringBuilder();
        foreach ((string name, Action<Assembler> code) in cases)
            Write(text, 64, name, code, engine);
        foreach ((string name, Action<Assembler> code) in cases32)
            Write(text, 32, name, code, engine);
        string path = Path.Combine(AppContext.BaseDirectory, "Golden", file);
        if (Environment.GetEnvironmentVariable("VIRTPS_UPDATE_GOLDEN") == "1")
        {
            path = Path.Combine(Folder(), "Golden", file);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, text.ToString());
        }

        Assert.Equal(File.ReadAllText(path), text.ToString());
    }

    private static string Folder([System.Runtime.CompilerServices.CallerFilePath] string file = "") => Path.GetDirectoryName(file)!;

    private static void Write(StringBuilder text, int bits, string name, Action<Assembler> code, EngineOptions engine)
    {
        using var g = new TestGuest(1, engine);
        if (bits == 64)
            g.LongMode();
        else
            g.Protected32();
        g.Assemble(bits, TestGuest.Code, a =>
        {
            code(a);
            a.ud2();
        });
        int translation = g.Cpu.TranslateOnly(TestGuest.Code);
        TranslationCache cache = g.Cpu.Translations!;
        ref TranslatedBlock t = ref cache.At(translation);
        text.AppendLine($"# {name}");
        FaultReport.Disassemble(text, t.Decoded, TestGuest.Code, -1);
        text.AppendLine("->");
        // Addresses relative to the start of the cache, so that they are the same in each run.
        FaultReport.Disassemble(text, cache.Executable(translation), t.Size, 64, (ulong)(cache.Executable(translation) - cache.Start), ulong.MaxValue);
        text.AppendLine();
    }
}
