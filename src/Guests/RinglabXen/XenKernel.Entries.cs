using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Guests.RinglabXen.XenMap;

namespace VirtPS.Guests.RinglabXen;

// What the kernel is entered by once it runs: system calls, events, exceptions; and the way back.
internal static partial class XenKernel
{
    /// <summary>SYSCALL of the program: function in RAX, argument in RDI.</summary>
    private static void EmitSyscall(XenCode c)
    {
        Assembler a = c.A;
        c.Mark("syscall");
        EmitEntry(c, hasError: false);
        a.inc(__qword_ptr[rbx + Syscalls]);
        a.cmp(rax, Summary);
        a.je(c["summary"]);
        a.cmp(rax, Line);
        a.jne(c["return"]);
        c.Mark("userline");
        a.mov(r12, rdi);
        XenConsole.EmitText(c, "[ring 3] ");
        a.mov(rsi, r12);
        a.call(c["puts"]);
        XenConsole.EmitText(c, "\r\n");
        a.jmp(c["return"]);

        c.Mark("int80");
        EmitEntry(c, hasError: false);
        a.inc(__qword_ptr[rbx + Int80Calls]);
        a.jmp(c["userline"]);

        c.Mark("return");
        a.mov(rcx, r14);
        a.mov(r11, r15);
        foreach (AssemblerRegister64 r in (ReadOnlySpan<AssemblerRegister64>)[r15, r14, r13, r12, r10, r9, r8, rdi, rsi, rdx, rbx, rax])
            a.pop(r);
        a.mov(__qword_ptr[rsp - 32], rax);
        a.mov(__qword_ptr[rsp - 24], r11);
        a.mov(__qword_ptr[rsp - 16], rcx);
        a.mov(__qword_ptr[rsp - 8], 0);
        a.sub(rsp, 32);
        a.mov(eax, Iret);
        a.syscall();
    }

    /// <summary>The frame is RCX, R11, (error), RIP …: RCX and R11 go back to their registers, the others are saved; RBX points at the variables.</summary>
    private static void EmitEntry(XenCode c, bool hasError)
    {
        Assembler a = c.A;
        a.pop(rcx);
        a.pop(r11);
        if (hasError)
            a.add(rsp, 8);
        foreach (AssemblerRegister64 r in (ReadOnlySpan<AssemblerRegister64>)[rax, rbx, rdx, rsi, rdi, r8, r9, r10, r12, r13, r14, r15])
            a.push(r);
        // Hypercalls take RCX and R11: what the frame says of them is kept where the return finds it.
        a.mov(rbx, Linear + Data);
        a.mov(r14, rcx);
        a.mov(r15, r11);
    }

    private static void EmitEvents(XenCode c)
    {
        Assembler a = c.A;
        const int saved = 12 * 8;
        c.Mark("event");
        EmitEntry(c, hasError: false);
        a.mov(rdi, Linear + SharedInfo);
        a.mov(__byte_ptr[rdi], 0);          // upcall pending
        a.mov(__qword_ptr[rdi + 8], 0);     // selector
        a.mov(rcx, __qword_ptr[rbx + TimerPort]);
        a.xor(eax, eax);
        a.xchg(__qword_ptr[rdi + 2048], rax); // all our ports are in the first word; the console's needs no more than the waking up
        a.bt(rax, rcx);
        Label other = a.CreateLabel(), kernel = a.CreateLabel();
        a.jae(other);
        a.inc(__qword_ptr[rbx + Ticks]);
        a.test(__byte_ptr[rsp + saved + 8], 3);
        a.je(kernel);
        a.inc(__qword_ptr[rbx + Ring3Ticks]);
        a.Label(ref kernel);
        a.call(c["arm"]);
        a.Label(ref other);
        a.jmp(c["return"]);

        // set_singleshot_timer: the next tick, from the last one's time.
        c.Mark("arm");
        a.mov(rdi, Linear + SharedInfo);
        a.rdtsc();
        a.shl(rdx, 32);
        a.or(rax, rdx);
        a.sub(rax, __qword_ptr[rdi + 40]);
        a.mov(cl, __byte_ptr[rdi + 60]);
        a.shl(rax, cl); // the shift is never negative at 1 GHz or less
        a.mov(edx, __dword_ptr[rdi + 56]);
        a.mul(rdx);
        a.shrd(rax, rdx, 32);
        a.add(rax, __qword_ptr[rdi + 48]);
        a.add(rax, (int)Tick);
        a.mov(__qword_ptr[rbx + Arguments], rax);
        a.mov(__qword_ptr[rbx + Arguments + 8], 0);
        a.mov(edi, 8);
        a.xor(esi, esi);
        a.lea(rdx, __[rbx + Arguments]);
        EmitCall(c, VcpuOp);
        a.ret();
    }

    private static void EmitTraps(XenCode c)
    {
        Assembler a = c.A;
        c.Mark("failsafe");
        a.mov(rbx, Linear + Data);
        c.LoadText("the failsafe callback");
        a.jmp(c["failed"]);
        foreach ((string name, bool hasError, int vector) in (ReadOnlySpan<(string, bool, int)>)[("trap.plain", false, 6), ("trap.error", true, 13), ("trap.page", true, 14)])
        {
            c.Mark(name);
            EmitEntry(c, hasError);
            if (vector == 14)
                a.inc(__qword_ptr[rbx + PageFaults]);
            a.mov(r12d, vector);
            a.jmp(c["trap"]);
        }

        // Expected ones go on where they were told to; a program's go on at the address in its RBP.
        const int saved = 12 * 8;
        Label program = a.CreateLabel(), unexpected = a.CreateLabel(), leave = a.CreateLabel();
        c.Mark("trap");
        a.test(__byte_ptr[rsp + saved + 8], 3);
        a.jne(program);
        a.cmp(r12, __qword_ptr[rbx + Expected]);
        a.jne(unexpected);
        a.mov(__qword_ptr[rbx + Caught], r12);
        a.mov(rax, __qword_ptr[rbx + Resume]);
        a.mov(__qword_ptr[rsp + saved], rax);
        a.jmp(leave);
        a.Label(ref program);
        a.inc(__qword_ptr[rbx + Refused]);
        a.mov(__qword_ptr[rsp + saved], rbp);
        a.Label(ref leave);
        a.jmp(c["return"]);
        a.Label(ref unexpected);
        c.LoadText("an exception that was not expected");
        a.jmp(c["failed"]);
    }
}
