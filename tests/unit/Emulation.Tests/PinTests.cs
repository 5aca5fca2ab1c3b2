namespace VirtPS.Emulation.Tests;

/// <summary>Accesses that share a check, where it is kept for others or arithmetic with displacements has an edge: generated code against the interpreter, over pages that lie in an order of their own.</summary>
public sealed unsafe class PinTests
{
    private const ulong Array = 0x40_0000, Frames = 0x20_0000;
    private const int Pages = 8;

    public static TheoryData<string, ulong> Cases => new()
    {
        { "mulx", unchecked(Array + 0x100) },
        { "last displacement", unchecked(Array + 0x1000 - 4 - 0x7FFFFFF8) },
        { "moved over the last displacement, R9", unchecked(Array + 0x80 - 0x7FFFFF00) },
        { "moved over the last displacement, R8", unchecked(Array + 0x80 - 0x7FFFFF00) },
        { "first displacement, R9", unchecked(Array + 0x80 + 0x80000000) },
        { "first displacement, R8", unchecked(Array + 0x80 + 0x80000000) },
        { "moved over the first displacement, R9", unchecked(Array + 0x180 + 0x80000000) },
    };

    private static void Emit(Assembler a, string name)
    {
        switch (name)
        {
            case "mulx":
                a.mulx(r9, r10, __[rsi]);
                a.mov(rax, __[rsi + 8]);
                break;
            case "last displacement":
                a.mov(rax, __[r8 + 0x7FFFFFF8]);
                a.mov(rbx, __[r8 + 0x7FFFFFF0]);
                break;
            case "moved over the last displacement, R9":
                a.mov(rax, __[r9 + 0x7FFFFF00]);
                a.add(r9, 0x100);
                a.mov(rbx, __[r9 + 0x7FFFFF00]);
                break;
            case "moved over the last displacement, R8":
                a.mov(rax, __[r8 + 0x7FFFFF00]);
                a.add(r8, 0x100);
                a.mov(rbx, __[r8 + 0x7FFFFF00]);
                break;
            case "first displacement, R9":
                a.mov(rax, __[r9 + int.MinValue]);
                a.mov(rbx, __[r9 - 0x7FFFFFF8]);
                break;
            case "first displacement, R8":
                a.mov(rax, __[r8 + int.MinValue]);
                a.mov(rbx, __[r8 - 0x7FFFFFF8]);
                break;
            case "moved over the first displacement, R9":
                a.mov(rax, __[r9 + int.MinValue]);
                a.sub(r9, 0x100);
                a.mov(rbx, __[r9 + int.MinValue]);
                break;
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Accesses_that_share_a_check_do_what_the_interpreter_does(string name, ulong pointer)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        using var interpreter = new TestGuest(engine: new EngineOptions());
        using var translator = new TestGuest(engine: TestGuest.Translator);
        Assert.Equal(Run(interpreter, name, pointer), Run(translator, name, pointer));
    }

    private static string Run(TestGuest g, string name, ulong pointer)
    {
        g.LongMode();
        g.WriteFaultTables(64);
        ulong pd = g.Read<ulong>(g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        ulong table = g.AllocateTable();
        g.Write(pd + (Array >> 21) * 8, table | 7);
        for (int i = 0; i < Pages; i++)
            g.Write(table + (ulong)i * 8, Frames + (ulong)((i * 5 + 3) % Pages) * 4096 | 7);
        new Random(1).NextBytes(new Span<byte>(g.Ram.Address + Frames, Pages * 4096));
        g.Assemble(64, TestGuest.Code, a =>
        {
            Emit(a, name);
            a.hlt();
        });
        string all = "";
        for (int i = 0; i < 3; i++)
        {
            for (int r = 0; r < 16; r++)
                g.S->Gpr[r] = (ulong)r;
            g[Gpr.Rsp] = TestGuest.Stack;
            g[Gpr.R8] = g[Gpr.R9] = g[Gpr.Rsi] = pointer;
            g.S->Rip = TestGuest.Code;
            VcpuExit exit = g.Cpu.Run();
            g.S->MpState = MpState.Runnable;
            all += $"{exit} rip {g.S->Rip:x} cr2 {g.S->Cr2:x} {string.Join(' ', Enumerable.Range(0, 16).Select(r => g.S->Gpr[r].ToString("x", null)))}\n";
        }

        return all;
    }
}
