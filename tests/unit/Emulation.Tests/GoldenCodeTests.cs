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
        ("load relative to RIP", a => a.mov(rcx, __qword_ptr[0x12345])),
        ("FS segment", a => a.mov(rax, __qword_ptr.fs[rax])),
        ("read, change, write", a => a.add(__dword_ptr[rdx + 8], 5)),
        ("locked", a => { a.@lock.xadd(__[rbp], rax); }),
        ("flags free and makeable again", a => { a.cmp(rax, 7); a.mov(rbx, __[rcx]); a.test(rbx, rbx); }),
        ("one check for several", a => { a.push(rbp); a.push(rbx); a.push(r12); a.mov(rbx, __[rsp + 16]); }),
        ("push, pop", a => { a.push(r9); a.pop(rdx); }),
        ("division", a => a.div(rsi)),
        ("signed division", a => a.idiv(__dword_ptr[rbx])),
        ("interrupt flag", a => { a.cli(); a.sti(); }),
        ("flags pushed", a => a.pushfq()),
        ("left to the interpreter", a => a.cpuid()),
        ("loop to itself", a => { Label l = a.CreateLabel(); a.Label(ref l); a.mov(rax, __[rsi]); a.add(rsi, 8); a.cmp(rsi, rdi); a.jb(l); }),
        ("call and return", a => { a.call(0x10100); }),
        ("return", a => a.ret()),
        ("indirect jump", a => a.jmp(rax)),
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
    ];

    [Fact]
    public void The_host_code_is_what_is_on_file()
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        var text = new StringBuilder();
        foreach ((string name, Action<Assembler> code) in Cases)
            Write(text, name, code);
        string path = Path.Combine(AppContext.BaseDirectory, "Golden", "translation.txt");
        if (Environment.GetEnvironmentVariable("VIRTPS_UPDATE_GOLDEN") == "1")
        {
            path = Path.Combine(Folder(), "Golden", "translation.txt");
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            File.WriteAllText(path, text.ToString());
        }

        Assert.Equal(File.ReadAllText(path), text.ToString());
    }

    private static string Folder([System.Runtime.CompilerServices.CallerFilePath] string file = "") => Path.GetDirectoryName(file)!;

    private static void Write(StringBuilder text, string name, Action<Assembler> code)
    {
        using var g = new TestGuest(1, new EngineOptions { Translate = true, HotAfter = 0 });
        g.LongMode();
        g.Assemble(64, TestGuest.Code, a =>
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
