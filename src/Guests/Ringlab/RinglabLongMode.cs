using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>Second act, ring 0's side: long mode with paging. SYSCALL and SYSRET, interrupts, page faults, the summary, and the idle loop's system call.</summary>
internal static class RinglabLongMode
{
    private const uint Star = 0xC000_0081, Lstar = 0xC000_0082, Sfmask = 0xC000_0084, KernelGsBase = 0xC000_0102;

    /// <summary>Flags that SYSCALL clears: TF, IF, DF, NT, AC.</summary>
    private const uint ClearedFlags = 0x4_4700;

    public static void Emit(RinglabCode c)
    {
        EmitStart(c);
        EmitSyscall(c);
        EmitInt80(c);
        EmitInterrupts(c);
        EmitExceptions(c);
        RinglabSummary.Emit(c);
        RinglabConsole.EmitRoutines(c);
        RinglabPlatform.EmitPowerRoutines(c);
    }

    private static void EmitStart(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("long");
        a.mov(eax, RinglabMap.Data64);
        foreach (AssemblerRegisterSegment segment in (ReadOnlySpan<AssemblerRegisterSegment>)[ds, es, ss, fs, gs])
            a.mov(segment, eax);
        a.mov(esp, RinglabMap.Ring0Stack);
        a.mov(eax, RinglabMap.Task64);
        a.ltr(ax);
        a.lidt(__[RinglabTables.Idt64Pointer]);
        EmitWriteMsr(c, Star, 0, ((RinglabMap.SysretBase | 3u) << 16) | RinglabMap.Code64);
        EmitWriteMsr(c, Lstar, c.AddressOf("syscall"), 0);
        EmitWriteMsr(c, Sfmask, ClearedFlags, 0);
        EmitWriteMsr(c, KernelGsBase, RinglabMap.PerCpu, 0);
        a.mov(__dword_ptr[RinglabMap.PerCpu], RinglabMap.Ring0Stack);
        RinglabPlatform.EmitUnmaskPic(c);
        RinglabPlatform.EmitStartPit(c);
        RinglabPlatform.EmitStartApicTimer(c);
        RinglabConsole.EmitEnableInput(c);
        RinglabConsole.EmitRing0Line(c, "long mode: 64-bit code, paging, timers at 100 Hz; entering ring 3 by IRETQ");
        a.push((int)RinglabMap.UserData64);
        a.push((int)RinglabMap.Ring3Stack);
        a.push(0x202); // interrupts on, IOPL 0
        a.push((int)RinglabMap.UserCode64);
        a.push((int)RinglabMap.UserText);
        a.iretq();
    }

    private static void EmitWriteMsr(RinglabCode c, uint msr, uint low, uint high)
    {
        c.A.mov(ecx, msr);
        c.A.mov(eax, low);
        c.A.mov(edx, high);
        c.A.wrmsr();
    }

    /// <summary>Function in EAX, argument in RDI; RAX, RCX, RDX, RSI, R11 are lost.</summary>
    private static void EmitSyscall(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("syscall");
        a.swapgs();
        a.mov(__qword_ptr.gs[8], rsp);
        a.mov(rsp, __qword_ptr.gs[0]);
        a.push(rcx);
        a.push(r11);
        a.add(__dword_ptr[RinglabMap.Syscalls], 1);
        foreach ((int function, string label) in (ReadOnlySpan<(int, string)>)[(RinglabUser.Nothing, "syscall.return"), (RinglabUser.Line, "syscall.line"),
            (RinglabUser.Wait, "syscall.wait"), (RinglabUser.Summary, "syscall.summary"), (RinglabUser.Options, "syscall.options"),
            (RinglabUser.BenchDone, "syscall.benchdone")])
        {
            a.cmp(eax, function);
            a.je(c[label]);
        }

        a.jmp(c["failed"]);

        c.Mark("syscall.wait"); // sleep until any interrupt; STI takes effect after HLT has begun
        a.sti();
        a.hlt();
        a.cli();
        a.jmp(c["syscall.return"]);

        c.Mark("syscall.line");
        a.call(c["userline"]);
        a.jmp(c["syscall.return"]);

        c.Mark("syscall.summary");
        a.call(c["summary"]);
        a.jmp(c["syscall.return"]);

        c.Mark("syscall.benchdone");
        a.call(c["benchdone"]);
        a.jmp(c["syscall.return"]);

        c.Mark("syscall.options");
        a.mov(eax, __dword_ptr[RinglabMap.Options]);

        c.Mark("syscall.return");
        a.pop(r11);
        a.pop(rcx);
        a.mov(rsp, __qword_ptr.gs[8]);
        a.swapgs();
        a.sysretq();

        c.Mark("userline");
        RinglabConsole.EmitText(c, "[ring 3] ");
        a.mov(esi, edi);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.ret();

        c.Mark("failed"); // the reason is at RDI
        RinglabConsole.EmitText(c, "RINGLAB-FAILED ");
        a.mov(esi, edi);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.jmp(c["platform.off"]);
    }

    /// <summary>INT 0x80 still works: one line at RDI.</summary>
    private static void EmitInt80(RinglabCode c)
    {
        c.Mark("int80");
        EmitSave(c);
        c.A.add(__dword_ptr[RinglabMap.Int80Calls], 1);
        c.A.call(c["userline"]);
        EmitRestoreAndReturn(c);
    }

    private static void EmitInterrupts(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("irq.pit");
        EmitSave(c);
        a.add(__dword_ptr[RinglabMap.SharedAlias], 1);
        a.test(__dword_ptr[rsp + 40], 3); // behind four registers and RIP: CS
        a.je(c["irq.pit.kernel"]);
        a.add(__dword_ptr[RinglabMap.PitTicksRing3], 1);
        c.Mark("irq.pit.kernel");
        RinglabPlatform.EmitPicEoi(c);
        EmitRestoreAndReturn(c);

        c.Mark("irq.apic");
        EmitSave(c);
        a.add(__dword_ptr[RinglabMap.ApicTicks], 1);
        RinglabPlatform.EmitApicEoi(c);
        EmitRestoreAndReturn(c);

        c.Mark("irq.spurious");
        a.iretq();

        c.Mark("irq.com1");
        EmitSave(c);
        c.Mark("irq.com1.next");
        a.mov(dx, RinglabConsole.Com1 + 5);
        a.@in(al, dx);
        a.test(al, 1); // data ready
        a.je(c["irq.com1.done"]);
        a.mov(dx, RinglabConsole.Com1);
        a.@in(al, dx);
        a.cmp(al, (byte)'q');
        a.je(c["input.off"]);
        a.cmp(al, (byte)'r');
        a.je(c["input.reset"]);
        a.call(c["putc"]);
        a.jmp(c["irq.com1.next"]);
        c.Mark("irq.com1.done");
        RinglabPlatform.EmitPicEoi(c);
        EmitRestoreAndReturn(c);
        c.Mark("input.off");
        RinglabConsole.EmitRing0Line(c, "q: power off");
        a.jmp(c["platform.off"]);
        c.Mark("input.reset");
        RinglabConsole.EmitRing0Line(c, "r: reset");
        a.jmp(c["platform.reset"]);
    }

    /// <summary>
    /// What ring 3 expects is in R14 (vector), R15 (error code), RBX (CR2 of a page fault), R13 (name) and R12 (where to go on).
    /// </summary>
    private static void EmitExceptions(RinglabCode c)
    {
        Assembler a = c.A;
        for (int vector = 0; vector < 32; vector++)
        {
            c.Mark($"stub.{vector}");
            if (!RinglabTables.HasErrorCode(vector))
                a.push(0);
            a.push(vector);
            a.jmp(c["exception"]);
        }

        // Above the four registers: vector 32, error code 40, RIP 48, CS 56.
        c.Mark("exception");
        EmitSave(c);
        a.test(__dword_ptr[rsp + 56], 3);
        a.je(c["unexpected"]);
        a.cmp(__qword_ptr[rsp + 32], r14);
        a.jne(c["unexpected"]);
        a.cmp(__qword_ptr[rsp + 40], r15);
        a.jne(c["unexpected"]);
        a.add(__dword_ptr[RinglabMap.Refused], 1);
        a.cmp(r14d, 14);
        a.je(c["exception.page"]);
        RinglabConsole.EmitText(c, "[ring 0] caught #GP(");
        a.jmp(c["exception.report"]);
        c.Mark("exception.page");
        a.mov(rax, cr2);
        a.cmp(rax, rbx);
        a.jne(c["unexpected"]);
        a.add(__dword_ptr[RinglabMap.PageFaults], 1);
        RinglabConsole.EmitText(c, "[ring 0] caught #PF at ");
        a.mov(eax, ebx);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, " (");
        c.Mark("exception.report");
        a.mov(eax, r15d);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, ") from ring 3: ");
        a.mov(esi, r13d);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.mov(__qword_ptr[rsp + 48], r12);
        EmitRestore(c);
        a.add(rsp, 16);
        a.iretq();

        c.Mark("unexpected");
        foreach ((string text, int offset) in (ReadOnlySpan<(string, int)>)[("RINGLAB-FAILED exception ", 32), (" error ", 40), (" at ", 56), (":", 48)])
        {
            RinglabConsole.EmitText(c, text);
            a.mov(eax, __dword_ptr[rsp + offset]);
            a.call(c["puthex"]);
        }

        RinglabConsole.EmitText(c, " CR2 ");
        a.mov(rax, cr2);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.jmp(c["platform.off"]);
    }

    /// <summary>The registers that the console routines use.</summary>
    private static void EmitSave(RinglabCode c)
    {
        c.A.push(rax);
        c.A.push(rcx);
        c.A.push(rdx);
        c.A.push(rsi);
    }

    private static void EmitRestore(RinglabCode c)
    {
        c.A.pop(rsi);
        c.A.pop(rdx);
        c.A.pop(rcx);
        c.A.pop(rax);
    }

    private static void EmitRestoreAndReturn(RinglabCode c)
    {
        EmitRestore(c);
        c.A.iretq();
    }
}
