using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Guests.RinglabXen.XenMap;

namespace VirtPS.Guests.RinglabXen;

/// <summary>The kernel: start, what it asks of the hypervisor, what is refused, and the program's way in and out. RBX points at the variables throughout.</summary>
internal static partial class XenKernel
{
    public const int SetTrapTable = 0, MmuUpdate = 1, SetGdt = 2, StackSwitch = 3, UpdateVaMapping = 14, XenVersion = 17, Iret = 23, VcpuOp = 24, MmuExtOp = 26, SchedOp = 29, CallbackOp = 30,
        EventChannelOp = 32, Unknown = 61;

    private const int Self = 0x7FF0, BenchCalls = 1_000_000, BenchBatches = 5;
    private const ulong Tick = 2_000_000;

    /// <summary>Program's system calls.</summary>
    public const int Line = 0, Summary = 1, Nothing = 2;

    public static void Emit(XenCode c)
    {
        EmitStart(c);
        EmitRefusals(c);
        EmitEnterProgram(c);
        EmitSyscall(c);
        EmitEvents(c);
        EmitTraps(c);
        EmitSummary(c);
        XenConsole.EmitRoutines(c);
    }

    /// <summary>A hypercall with its arguments in place; the result in RAX; RCX and R11 are lost.</summary>
    public static void EmitCall(XenCode c, int number)
    {
        c.A.inc(__qword_ptr[rbx + Hypercalls]);
        c.A.mov(eax, number);
        c.A.syscall();
    }

    /// <summary>RDI = the arguments' place, after the values were stored there.</summary>
    private static void EmitArguments(XenCode c, params ReadOnlySpan<ulong> values)
    {
        Assembler a = c.A;
        for (int i = 0; i < values.Length; i++)
        {
            a.mov(rax, values[i]);
            a.mov(__qword_ptr[rbx + Arguments + (i * 8)], rax);
        }

        a.lea(rdi, __[rbx + Arguments]);
    }

    private static void EmitStart(XenCode c)
    {
        Assembler a = c.A;
        a.cld();
        a.mov(rbx, Linear + Data);
        a.mov(rsp, Linear + KernelStack + 0x2000);
        a.mov(__qword_ptr[rbx + StartInfo], rsi);
        a.mov(rax, __qword_ptr[rsi + 72]); // console.mfn: frames are numbered alike here
        a.shl(rax, 12);
        a.mov(rcx, VirtualBase);
        a.add(rax, rcx);
        a.mov(__qword_ptr[rbx + ConsolePage], rax);
        a.mov(eax, __dword_ptr[rsi + 80]);
        a.mov(__qword_ptr[rbx + ConsolePort], rax);
        XenConsole.EmitOption(c, "exit", OptionExit);
        XenConsole.EmitOption(c, "bench", OptionBench);
        XenConsole.EmitLine(c, "[ring 0] ringlab: a kernel in ring 3 that calls down by hypercall");
        EmitVersion(c);
        EmitMapSharedInfo(c);
        EmitTrapTable(c);
        foreach ((ulong type, string label) in (ReadOnlySpan<(ulong, string)>)[(0, "event"), (1, "failsafe"), (2, "syscall")])
        {
            a.lea(rax, __[c[label]]);
            a.mov(__qword_ptr[rbx + Arguments + 8], rax);
            a.mov(rax, type | 1ul << 16);
            a.mov(__qword_ptr[rbx + Arguments], rax);
            a.lea(rsi, __[rbx + Arguments]);
            a.xor(edi, edi);
            EmitCall(c, CallbackOp);
            EmitCheckDone(c, "callback_op");
        }

        a.xor(edi, edi);
        a.mov(rsi, Linear + KernelStack + 0x2000);
        EmitCall(c, StackSwitch);
        EmitBench(c);
        a.jmp(c["refusals"]);
    }

    private static void EmitVersion(XenCode c)
    {
        Assembler a = c.A;
        a.xor(edi, edi);
        a.xor(esi, esi);
        EmitCall(c, XenVersion);
        a.mov(r12, rax);
        XenConsole.EmitText(c, "[ring 0] xen_version: ");
        a.mov(eax, r12d);
        a.shr(eax, 16);
        a.call(c["putdec"]);
        XenConsole.EmitText(c, ".");
        a.movzx(eax, r12w);
        a.call(c["putdec"]);
        XenConsole.EmitText(c, "\r\n");
    }

    private static void EmitMapSharedInfo(XenCode c)
    {
        Assembler a = c.A;
        a.mov(rdi, Linear + SharedInfo);
        a.mov(rsi, __qword_ptr[rbx + StartInfo]);
        a.mov(rsi, __qword_ptr[rsi + 40]);
        a.or(rsi, 0x63);
        a.mov(edx, 2);
        EmitCall(c, UpdateVaMapping);
        EmitCheckDone(c, "update_va_mapping(shared_info)");
    }

    /// <summary>trap_info entries: vector, flags, selector, address.</summary>
    private static void EmitTrapTable(XenCode c)
    {
        Assembler a = c.A;
        int at = Traps;
        foreach ((uint vector, uint flags, string label) in (ReadOnlySpan<(uint, uint, string)>)[(6, 4, "trap.plain"), (13, 4, "trap.error"), (14, 4, "trap.page"), (0x80, 7, "int80")])
        {
            a.mov(rax, (ulong)(vector | flags << 8) | 0xE033ul << 16);
            a.mov(__qword_ptr[rbx + at], rax);
            a.lea(rax, __[c[label]]);
            a.mov(__qword_ptr[rbx + at + 8], rax);
            at += 16;
        }

        a.lea(rdi, __[rbx + Traps]);
        EmitCall(c, SetTrapTable);
        EmitCheckDone(c, "set_trap_table");
    }

    /// <summary>RAX must be 0.</summary>
    private static void EmitCheckDone(XenCode c, string what)
    {
        Assembler a = c.A;
        Label done = a.CreateLabel();
        a.test(rax, rax);
        a.je(done);
        c.LoadText(what);
        a.jmp(c["failed"]);
        a.Label(ref done);
    }

    /// <summary>RAX must be this error; it is counted and told.</summary>
    private static void EmitCheckRefused(XenCode c, string what, int error)
    {
        Assembler a = c.A;
        Label refused = a.CreateLabel();
        a.cmp(rax, error);
        a.je(refused);
        c.LoadText(what);
        a.jmp(c["failed"]);
        a.Label(ref refused);
        a.inc(__qword_ptr[rbx + Refused]);
        XenConsole.EmitLine(c, $"[ring 0] {what}: refused ({error})");
    }

    /// <summary>A million at a time: the first ones show what the VMM's start costs.</summary>
    private static void EmitBench(XenCode c)
    {
        Assembler a = c.A;
        Label none = a.CreateLabel();
        a.test(__qword_ptr[rbx + Options], OptionBench);
        a.je(none);
        for (int i = 0; i < BenchBatches; i++)
            EmitBenchBatch(c);
        a.Label(ref none);
    }

    private static void EmitBenchBatch(XenCode c)
    {
        Assembler a = c.A;
        Label loop = a.CreateLabel();
        a.rdtsc();
        a.shl(rdx, 32);
        a.or(rdx, rax);
        a.mov(r13, rdx);
        a.mov(r14d, BenchCalls);
        a.Label(ref loop);
        a.xor(edi, edi);
        a.mov(eax, XenVersion);
        a.syscall();
        a.dec(r14d);
        a.jne(loop);
        a.rdtsc();
        a.shl(rdx, 32);
        a.or(rax, rdx);
        a.sub(rax, r13);
        a.xor(edx, edx);
        a.mov(ecx, BenchCalls / 1000);
        a.div(rcx);
        a.mov(r13, rax);
        XenConsole.EmitText(c, "RINGLAB-BENCH null hypercall: ");
        a.mov(rax, r13);
        a.call(c["putdec"]);
        XenConsole.EmitLine(c, " TSC ticks per thousand");
    }

    private static void EmitRefusals(XenCode c)
    {
        Assembler a = c.A;
        c.Mark("refusals");
        EmitCall(c, Unknown);
        EmitCheckRefused(c, "an unknown hypercall", -38);

        EmitMap(c, Scratch, 0x7F_FFFFul << 12 | 0x63);
        EmitCheckRefused(c, "mapping a frame that is not ours", -22);

        a.mov(rsi, __qword_ptr[rbx + StartInfo]);
        a.mov(rdi, __qword_ptr[rsi + 88]); // pt_base
        a.mov(rsi, rdi);
        a.mov(rcx, VirtualBase);
        a.sub(rsi, rcx);
        a.or(rsi, 0x63);
        a.mov(edx, 2);
        EmitCall(c, UpdateVaMapping);
        EmitCheckRefused(c, "mapping our root table writable", -22);

        EmitExtended(c, 3, Scratch);
        EmitCheckRefused(c, "pinning a writable page as a table", -22);

        // A table that is read-only and pinned: the kernel's own store to it is carried out by the hypervisor, after the same checks.
        EmitMap(c, Spare, (Physical + Spare) | 0x61);
        EmitCheckDone(c, "making a page read-only");
        EmitExtended(c, 0, Spare);
        EmitCheckDone(c, "pinning an L1 table");
        a.mov(rdi, Linear + Spare);
        a.mov(rax, (Physical + Scratch) | 0x63);
        a.mov(__qword_ptr[rdi], rax);
        a.inc(__qword_ptr[rbx + TableWrites]);
        XenConsole.EmitLine(c, "[ring 0] a direct store to a page table: checked and carried out");
        EmitMap(c, Spare, (Physical + Spare) | 0x63);
        EmitCheckRefused(c, "mapping a page table writable", -22);

        EmitExpectTrap(c, "a direct store to the root table", 14, "refuse.root", () =>
        {
            a.mov(rsi, __qword_ptr[rbx + StartInfo]);
            a.mov(rdi, __qword_ptr[rsi + 88]);
            a.mov(__qword_ptr[rdi + 8], rdi);
        });
        EmitExpectTrap(c, "HLT", 13, "refuse.hlt", () => a.hlt());
        EmitExpectTrap(c, "LGDT", 13, "refuse.lgdt", () => a.lgdt(__[rbx]));
        EmitExpectTrap(c, "UD2", 6, "refuse.ud", () => a.ud2());
        a.jmp(c["enter"]);
    }

    private static void EmitMap(XenCode c, int page, ulong entry)
    {
        c.A.mov(rdi, Linear + (ulong)page);
        c.A.mov(rsi, entry);
        c.A.mov(edx, 2);
        EmitCall(c, UpdateVaMapping);
    }

    /// <summary>mmuext_op with the frame of a page of ours.</summary>
    private static void EmitExtended(XenCode c, ulong command, int page)
    {
        EmitArguments(c, command, (Physical + (ulong)page) >> 12, 0);
        c.A.mov(esi, 1);
        c.A.xor(edx, edx);
        c.A.mov(r10d, Self);
        EmitCall(c, MmuExtOp);
    }

    private static void EmitExpectTrap(XenCode c, string what, int vector, string resume, Action instruction)
    {
        Assembler a = c.A;
        a.mov(__qword_ptr[rbx + Expected], vector);
        a.mov(__qword_ptr[rbx + Caught], 0);
        a.lea(rax, __[c[resume]]);
        a.mov(__qword_ptr[rbx + Resume], rax);
        instruction();
        c.Mark(resume);
        a.mov(__qword_ptr[rbx + Expected], 0);
        a.mov(rax, __qword_ptr[rbx + Caught]);
        a.neg(rax);
        EmitCheckRefused(c, what, -vector);
    }

    /// <summary>The program's address space: four tables of our own, shared with the kernel's root; then IRET.</summary>
    private static void EmitEnterProgram(XenCode c)
    {
        Assembler a = c.A;
        c.Mark("enter");
        foreach ((int table, ulong index, ulong entry) in (ReadOnlySpan<(int, ulong, ulong)>)[(UserL4, 0, (Physical + UserL3) | 0x67), (UserL3, 0, (Physical + UserL2) | 0x67),
            (UserL2, UserCode >> 21, (Physical + UserL1) | 0x67), (UserL1, UserCode >> 12 & 511, (Physical + UserText) | 0x65), (UserL1, (UserStackTop >> 12 & 511) - 1, (Physical + UserStack) | 0x67)])
        {
            a.mov(rdi, Linear + (ulong)table + index * 8);
            a.mov(rax, entry);
            a.mov(__qword_ptr[rdi], rax);
        }

        foreach (int table in (ReadOnlySpan<int>)[UserL4, UserL3, UserL2, UserL1])
        {
            EmitMap(c, table, (Physical + (ulong)table) | 0x61);
            EmitCheckDone(c, "making the program's tables read-only");
        }

        EmitExtended(c, 3, UserL4);
        EmitCheckDone(c, "pinning the program's root");
        EmitExtended(c, 15, UserL4);
        EmitCheckDone(c, "setting the program's root");

        // The kernel sees the program, too: its own root gets the same lower half.
        a.mov(rsi, __qword_ptr[rbx + StartInfo]);
        a.mov(rax, __qword_ptr[rsi + 88]);
        a.mov(rcx, VirtualBase);
        a.sub(rax, rcx);
        a.mov(__qword_ptr[rbx + Arguments], rax);
        a.mov(rax, (Physical + UserL3) | 0x67);
        a.mov(__qword_ptr[rbx + Arguments + 8], rax);
        a.lea(rdi, __[rbx + Arguments]);
        a.mov(esi, 1);
        a.xor(edx, edx);
        a.mov(r10d, Self);
        EmitCall(c, MmuUpdate);
        EmitCheckDone(c, "mmu_update of the root");
        EmitStartTimer(c);
        XenConsole.EmitLine(c, "[ring 0] entering the program by hypercall iret");
        a.push(0xE02B);
        a.mov(rax, UserStackTop);
        a.push(rax);
        a.push(0x202);
        a.push(0xE033);
        a.mov(rax, UserCode);
        a.push(rax);
        a.push(0); // flags
        a.push(0); // rcx
        a.push(0); // r11
        a.push(0); // rax
        a.mov(eax, Iret);
        a.syscall();
    }

    private static void EmitStartTimer(XenCode c)
    {
        Assembler a = c.A;
        EmitArguments(c, 0, 0); // VIRQ_TIMER, vCPU 0
        a.mov(rsi, rdi);
        a.mov(edi, 1);
        EmitCall(c, EventChannelOp);
        EmitCheckDone(c, "bind_virq");
        a.mov(eax, __dword_ptr[rbx + Arguments + 8]);
        a.mov(__qword_ptr[rbx + TimerPort], rax);
        a.call(c["arm"]);
        XenConsole.EmitLine(c, "[ring 0] timer: VIRQ_TIMER every 2 ms");
    }

    private static void EmitSummary(XenCode c)
    {
        Assembler a = c.A;
        c.Mark("summary");
        XenConsole.EmitText(c, "\r\nRINGLAB-OK rings=0,3");
        foreach ((string name, int variable) in (ReadOnlySpan<(string, int)>)[("hypercalls", Hypercalls), ("refused", Refused), ("tablewrites", TableWrites), ("int80", Int80Calls), ("syscalls", Syscalls),
            ("ticks", Ticks), ("ring3ticks", Ring3Ticks), ("pagefaults", PageFaults)])
        {
            XenConsole.EmitText(c, $" {name}=");
            a.mov(rax, __qword_ptr[rbx + variable]);
            a.call(c["putdec"]);
        }

        XenConsole.EmitText(c, "\r\n");
        Label off = a.CreateLabel(), idle = a.CreateLabel();
        a.test(__qword_ptr[rbx + Options], OptionExit);
        a.jne(off);
        XenConsole.EmitLine(c, "[ring 0] input: q = power off, r = reset, anything else is echoed");
        a.Label(ref idle);
        a.mov(edi, 1); // block: until any event; the callback serves it
        a.xor(esi, esi);
        EmitCall(c, SchedOp);
        a.call(c["input"]);
        a.cmp(eax, 'q');
        a.je(off);
        a.cmp(eax, 'r');
        a.jne(idle);
        XenConsole.EmitLine(c, "[ring 0] r: reset");
        EmitShutdown(c, 1);
        a.Label(ref off);
        XenConsole.EmitLine(c, "[ring 0] exit: power off");
        EmitShutdown(c, 0);

        c.Mark("failed"); // the reason is at RSI
        a.mov(r12, rsi);
        XenConsole.EmitText(c, "RINGLAB-FAILED ");
        a.mov(rsi, r12);
        a.call(c["puts"]);
        XenConsole.EmitText(c, "\r\n");
        EmitShutdown(c, 0);
    }

    private static void EmitShutdown(XenCode c, ulong reason)
    {
        EmitArguments(c, reason);
        c.A.mov(rsi, rdi);
        c.A.mov(edi, 2);
        EmitCall(c, SchedOp);
    }
}
