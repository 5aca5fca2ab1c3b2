using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.RinglabXen;

/// <summary>The program: system calls both ways, what it must not do, and a wait for ticks of the timer.</summary>
internal static class XenProgram
{
    /// <summary>TSC ticks: some timer periods, whatever the rate.</summary>
    private const int WaitTsc = 60_000_000;

    public static void Emit(XenCode c)
    {
        Assembler a = c.A;
        EmitLine(c, "SYSCALL reaches the kernel through its callback", () => a.syscall());
        EmitLine(c, "INT 0x80, too: its entry of the trap table lets ring 3 in", () => a.@int(0x80));
        EmitForbidden(c, "CLI", () => a.cli());
        EmitForbidden(c, "MOV from CR3", () => a.mov(rax, cr3));
        EmitForbidden(c, "a read of the kernel's memory", () =>
        {
            a.mov(rdi, XenMap.Linear);
            a.mov(rax, __qword_ptr[rdi]);
        });
        EmitForbidden(c, "a write to its own code", () =>
        {
            a.mov(rdi, XenMap.UserCode);
            a.mov(__byte_ptr[rdi], 0x90);
        });
        EmitForbidden(c, "INT 0x0D", () => a.@int(0x0D));
        EmitLine(c, "now waiting for the timer in ring 3", () => a.syscall());
        Label loop = a.CreateLabel();
        a.rdtsc();
        a.shl(rdx, 32);
        a.or(rax, rdx);
        a.lea(r13, __[rax + WaitTsc]);
        a.Label(ref loop);
        a.rdtsc();
        a.shl(rdx, 32);
        a.or(rax, rdx);
        a.cmp(rax, r13);
        a.jb(loop);
        a.mov(eax, XenKernel.Summary);
        a.syscall();
        a.ud2();
    }

    private static void EmitLine(XenCode c, string text, Action call)
    {
        c.LoadText(text);
        c.A.mov(rdi, rsi);
        c.A.mov(eax, XenKernel.Line);
        call();
    }

    /// <summary>The kernel's handler goes on at RBP.</summary>
    private static void EmitForbidden(XenCode c, string what, Action instruction)
    {
        Assembler a = c.A;
        Label caught = a.CreateLabel();
        a.lea(rbp, __[caught]);
        instruction();
        EmitLine(c, $"{what}: NOT refused", () => a.syscall());
        a.ud2();
        a.Label(ref caught);
        EmitLine(c, $"{what}: refused", () => a.syscall());
    }
}
