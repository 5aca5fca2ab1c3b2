using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>Second act, ring 3's side: 64-bit code in the only pages it may execute. It speaks to ring 0 by SYSCALL.</summary>
internal static class RinglabUser
{
    /// <summary>System calls: number in EAX, argument in RDI.</summary>
    public const int Nothing = 0, Line = 1, Wait = 2, Summary = 3, Options = 4, BenchDone = 5, Fail = 6;

    /// <summary>Ticks of 10 ms to spin through in ring 3.</summary>
    private const int SpinTicks = 10;

    /// <summary>System calls of a storm that ends (with the option <c>exit</c>).</summary>
    public const int StormCalls = 1_000_000;

    private const uint NotMapped = 0x40_0000, OnStack = RinglabMap.Ring3Stack - 64;

    // Page-fault error codes (SDM Vol. 3A §4.7).
    private const int Protection = 1, Write = 2, User = 4, Fetch = 16;

    public static void Emit(RinglabCode c)
    {
        Assembler a = c.A;
        EmitLine(c, "64-bit code in ring 3; this line came by SYSCALL and SYSRET brought me back");
        a.mov(edi, c.Text("and this one by INT 0x80 and IRETQ"));
        a.@int(RinglabMap.VectorSystemCall);
        EmitViolations(c);
        EmitPageFaults(c);
        EmitSpin(c);
        EmitCall(c, Summary);
        EmitCall(c, Options);
        a.test(eax, RinglabMap.OptionBench);
        a.jne(c["storm"]);

        c.Mark("idle"); // one system call per interrupt, for ever: what tracing shows of a live ringlab
        EmitCall(c, Wait);
        a.jmp(c["idle"]);

        c.Mark("storm");
        a.mov(ebp, eax);
        c.Mark("storm.begin");
        a.mov(ebx, StormCalls);
        c.Mark("storm.next");
        a.xor(eax, eax);
        a.syscall();
        a.sub(ebx, 1);
        a.jne(c["storm.next"]);
        EmitCall(c, BenchDone); // powers off when told so, else
        a.jmp(c["storm.begin"]);
    }

    // INT through a gate of ring 0's is tried in protected mode only: QEMU (7.2, one of our oracles) gives another error code in long mode than the SDM.
    private static void EmitViolations(RinglabCode c)
    {
        EmitAttempt(c, "CLI", 13, 0, 0, x => x.A.cli());
        EmitAttempt(c, "HLT", 13, 0, 0, x => x.A.hlt());
        EmitAttempt(c, "MOV RAX, CR3", 13, 0, 0, x => x.A.mov(rax, cr3));
        EmitAttempt(c, "RDMSR", 13, 0, 0, x => x.A.rdmsr());
        EmitAttempt(c, "IN from port 0x80", 13, 0, 0, x => x.A.@in(al, 0x80));
    }

    private static void EmitPageFaults(RinglabCode c)
    {
        EmitAttempt(c, "reading ring 0's variables", 14, Protection | User, RinglabMap.Data, x => x.A.mov(al, __byte_ptr[RinglabMap.Data]));
        EmitAttempt(c, "writing the page that it may only read", 14, Protection | Write | User, RinglabMap.PitTicks, x => x.A.mov(__dword_ptr[RinglabMap.PitTicks], 0));
        EmitAttempt(c, "writing where nothing is mapped", 14, Write | User, NotMapped, x => x.A.mov(__byte_ptr[NotMapped], 0));
        EmitAttempt(c, "executing its own stack", 14, Protection | User | Fetch, OnStack, x =>
        {
            x.A.mov(eax, OnStack);
            x.A.jmp(rax);
        });
    }

    private static void EmitSpin(RinglabCode c)
    {
        Assembler a = c.A;
        EmitLine(c, "spinning here until 10 timer ticks have interrupted me");
        a.mov(ebx, __dword_ptr[RinglabMap.PitTicks]);
        a.add(ebx, SpinTicks);
        c.Mark("spin");
        a.pause();
        a.cmp(__dword_ptr[RinglabMap.PitTicks], ebx);
        a.jb(c["spin"]);
    }

    private static void EmitAttempt(RinglabCode c, string name, int vector, int error, uint faultAddress, Action<RinglabCode> instruction)
    {
        Assembler a = c.A;
        string resume = "resume." + name;
        a.mov(r14d, vector);
        a.mov(r15d, error);
        a.mov(ebx, faultAddress);
        a.mov(r13d, c.Text(name));
        a.mov(r12d, c.AddressOf(resume));
        instruction(c);
        a.mov(edi, c.Text(name + " was not refused"));
        EmitCall(c, Fail);
        c.Mark(resume);
    }

    private static void EmitLine(RinglabCode c, string text)
    {
        c.A.mov(edi, c.Text(text));
        EmitCall(c, Line);
    }

    private static void EmitCall(RinglabCode c, int function)
    {
        c.A.mov(eax, function);
        c.A.syscall();
    }
}
