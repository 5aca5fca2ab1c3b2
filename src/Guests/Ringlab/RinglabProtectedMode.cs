using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>
/// First act: protected mode without paging, where all four rings are used. Ring 3 calls down through gates to 2, 1 and 0 and comes back up; every ring's
/// lines say which ring they come from, as the processor has saved it. Then forbidden things are tried.
/// </summary>
internal static class RinglabProtectedMode
{
    /// <summary>EFLAGS of ring 3: IOPL 1, so that rings 0 and 1 may do I/O; interrupts off.</summary>
    private const int Ring3Flags = (1 << 12) | 2;

    private const uint GateParameter = 0x1234;
    private const int CallLine = 1, CallLongMode = 2, CallFail = 3;

    public static void Emit(RinglabCode c)
    {
        EmitRing0(c);
        EmitRing1(c);
        EmitRing2(c);
        EmitRing3(c);
        EmitInt80(c);
        EmitExceptions(c);
        EmitEnterLongMode(c);
    }

    private static void EmitRing0(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("protected");
        RinglabConsole.EmitText(c, "\r\nringlab: protection rings at work\r\n");
        RinglabConsole.EmitRing0Line(c, "protected mode: GDT, IDT and TSS are loaded; entering ring 3 by IRET");
        a.push((int)RinglabMap.Data3);
        a.push((int)RinglabMap.Ring3Stack);
        a.push(Ring3Flags);
        a.push((int)RinglabMap.Code3);
        a.push((int)c.AddressOf("ring3"));
        a.iretd();

        // Console gate: prefix and line at ESI. Frame: EIP, CS of the caller, its ESP and SS.
        c.Mark("gate.console");
        a.pushad();
        a.add(__dword_ptr[RinglabMap.GateCalls], 1);
        a.mov(eax, __dword_ptr[esp + 36]);
        a.call(c["line"]);
        a.popad();
        a.retf();

        // The bottom of the ladder. Frame: EIP, CS, one parameter copied by the gate, ESP, SS.
        c.Mark("gate.ring0");
        a.add(__dword_ptr[RinglabMap.GateCalls], 1);
        EmitCountEntry(c);
        RinglabConsole.EmitText(c, "[ring 0] called from ring ");
        a.mov(eax, __dword_ptr[esp + 4]);
        a.and(eax, 3);
        a.call(c["putdec"]);
        RinglabConsole.EmitText(c, "; the gate copied parameter ");
        a.mov(eax, __dword_ptr[esp + 8]);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, " to my stack\r\n");
        a.mov(eax, __dword_ptr[esp + 8]);
        a.add(eax, 1);
        a.retf(4);

        // Line at ESI; EAX is the CS of who says it. Clobbers EDI.
        c.Mark("line");
        a.mov(edi, esi);
        a.and(eax, 3);
        a.call(c["prefix"]);
        a.mov(esi, edi);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.ret();
    }

    private static void EmitRing1(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("gate.ring1");
        a.add(__dword_ptr[RinglabMap.GateCalls], 1);
        EmitCountEntry(c);
        EmitDirectLine(c, "entered from ring 2; IOPL is 1, so I write to the serial port myself");
        EmitDirectLine(c, "calling ring 0 through gate 0x69 with a parameter on the stack");
        a.push((int)GateParameter);
        a.call((ushort)(RinglabMap.GateToRing0 | 1), 0);
        a.cmp(eax, GateParameter + 1);
        a.je(c["ring1.answered"]);
        EmitFail(c, "ring 0 gave ring 1 a wrong answer");
        c.Mark("ring1.answered");
        EmitDirectLine(c, "back from ring 0; returning to ring 2");
        a.retf();
    }

    private static void EmitRing2(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("gate.ring2");
        a.add(__dword_ptr[RinglabMap.GateCalls], 1);
        EmitCountEntry(c);
        EmitGateLine(c, "entered from ring 3; calling ring 1 through gate 0x62");
        a.call((ushort)(RinglabMap.GateToRing1 | 2), 0);
        EmitGateLine(c, "back from ring 1; trying CLI, which needs CPL <= IOPL");
        EmitAttempt(c, "CLI in ring 2", 0, x => x.A.cli());
        EmitGateLine(c, "returning to ring 3");
        a.retf();
    }

    private static void EmitRing3(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("ring3");
        EmitCountEntry(c);
        EmitGateLine(c, "here I am; I may not do I/O, so ring 0 prints for me, called through gate 0x53");
        EmitGateLine(c, "calling ring 2 through gate 0x5b");
        a.call((ushort)(RinglabMap.GateToRing2 | 3), 0);
        EmitGateLine(c, "back from ring 2: the ladder went 3 2 1 0 and up again; now for what is forbidden");
        EmitAttempt(c, "CLI", 0, x => x.A.cli());
        EmitAttempt(c, "HLT", 0, x => x.A.hlt());
        EmitAttempt(c, "MOV EAX, CR0", 0, x => x.A.mov(eax, cr0));
        EmitAttempt(c, "LGDT", 0, x => x.A.lgdt(__[RinglabTables.Gdt32Pointer]));
        EmitAttempt(c, "OUT to the serial port", 0, x =>
        {
            x.A.mov(dx, RinglabConsole.Com1);
            x.A.@out(dx, al);
        });
        EmitAttempt(c, "MOV DS with ring 0's data segment", RinglabMap.Data0, x =>
        {
            x.A.mov(eax, RinglabMap.Data0);
            x.A.mov(ds, eax);
        });
        EmitAttempt(c, "far CALL straight into ring 0's code", RinglabMap.Code0, x => x.A.call(RinglabMap.Code0, x.AddressOf("protected")));
        EmitAttempt(c, "CALL through the gate that is ring 1's", RinglabMap.GateToRing0, x => x.A.call(RinglabMap.GateToRing0, 0));
        EmitAttempt(c, "INT 0x20, whose gate is ring 0's", (RinglabMap.VectorPit * 8) | 2, x => x.A.@int(RinglabMap.VectorPit));
        a.mov(esi, c.Text("this line came by INT 0x80; asking ring 0 for long mode"));
        a.mov(eax, CallLine);
        a.@int(RinglabMap.VectorSystemCall);
        a.mov(eax, CallLongMode);
        a.@int(RinglabMap.VectorSystemCall);
    }

    /// <summary>System calls by software interrupt: function in EAX.</summary>
    private static void EmitInt80(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("int80");
        a.pushad();
        a.add(__dword_ptr[RinglabMap.Int80Calls], 1);
        a.cmp(eax, CallLongMode);
        a.je(c["enterlong"]);
        a.cmp(eax, CallLine);
        a.jne(c["failed"]);
        a.mov(eax, __dword_ptr[esp + 36]);
        a.call(c["line"]);
        a.popad();
        a.iretd();
        c.Mark("failed"); // the reason is at ESI
        a.mov(edi, esi);
        RinglabConsole.EmitText(c, "RINGLAB-FAILED ");
        a.mov(esi, edi);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.jmp(c["platform.off"]);
    }

    /// <summary>
    /// An instruction that must fault. Until it has, the registers say what ring 0 shall find: ECX vector, EBX error code, EDI name, EBP where to go on.
    /// </summary>
    private static void EmitAttempt(RinglabCode c, string name, int error, Action<RinglabCode> instruction)
    {
        Assembler a = c.A;
        string resume = "resume." + name;
        a.mov(ecx, 13);
        a.mov(ebx, error);
        a.mov(edi, c.Text(name));
        a.mov(ebp, c.AddressOf(resume));
        instruction(c);
        EmitFail(c, name + " was not refused");
        c.Mark(resume);
    }

    private static void EmitExceptions(RinglabCode c)
    {
        Assembler a = c.A;
        for (int vector = 0; vector <= RinglabMap.VectorPit; vector++)
        {
            c.Mark($"stub.{vector}");
            if (!RinglabTables.HasErrorCode(vector))
                a.push(0);
            a.push(vector);
            a.jmp(c["exception"]);
        }

        // Above the eight registers: vector 32, error code 36, EIP 40, CS 44, EFLAGS 48.
        c.Mark("exception");
        a.pushad();
        a.test(__dword_ptr[esp + 44], 3);
        a.je(c["unexpected"]);
        a.cmp(__dword_ptr[esp + 32], ecx);
        a.jne(c["unexpected"]);
        a.cmp(__dword_ptr[esp + 36], ebx);
        a.jne(c["unexpected"]);
        a.add(__dword_ptr[RinglabMap.Refused], 1);
        RinglabConsole.EmitText(c, "[ring 0] caught #GP(");
        a.mov(eax, __dword_ptr[esp + 36]);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, ") from ring ");
        a.mov(eax, __dword_ptr[esp + 44]);
        a.and(eax, 3);
        a.call(c["putdec"]);
        RinglabConsole.EmitText(c, ": ");
        a.mov(esi, edi);
        a.call(c["puts"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.mov(__dword_ptr[esp + 40], ebp);
        a.popad();
        a.add(esp, 8);
        a.iretd();

        c.Mark("unexpected");
        RinglabConsole.EmitText(c, "RINGLAB-FAILED exception ");
        a.mov(eax, __dword_ptr[esp + 32]);
        a.call(c["putdec"]);
        RinglabConsole.EmitText(c, " error ");
        a.mov(eax, __dword_ptr[esp + 36]);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, " at ");
        a.mov(eax, __dword_ptr[esp + 44]);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, ":");
        a.mov(eax, __dword_ptr[esp + 40]);
        a.call(c["puthex"]);
        RinglabConsole.EmitText(c, "\r\n");
        a.jmp(c["platform.off"]);
    }

    /// <summary>Paging and long mode on (SDM Vol. 3A §9.8.5); does not return.</summary>
    private static void EmitEnterLongMode(RinglabCode c)
    {
        const uint efer = 0xC000_0080, featureLeaf = 0x8000_0001;
        Assembler a = c.A;
        c.Mark("enterlong");
        a.mov(eax, featureLeaf);
        a.cpuid();
        a.mov(esi, c.Text("the processor has no long mode"));
        a.test(edx, 1 << 29);
        a.je(c["failed"]);
        RinglabConsole.EmitRing0Line(c, "switching to long mode: PAE, page tables, EFER.LME, paging");
        a.mov(eax, 1 << 5);
        a.mov(cr4, eax);
        a.mov(eax, RinglabTables.Pml4);
        a.mov(cr3, eax);
        a.mov(ecx, efer);
        a.rdmsr();
        a.or(eax, (1 << 0) | (1 << 8) | (1 << 11)); // SCE, LME, NXE
        a.wrmsr();
        a.lgdt(__[RinglabTables.Gdt64Pointer]);
        a.mov(eax, cr0);
        a.or(eax, (1u << 31) | (1 << 16)); // PG, WP
        a.mov(cr0, eax);
        a.jmp(RinglabMap.Code64, RinglabMap.Text64);
    }

    /// <summary>A line that ring 0 prints for the ring which calls.</summary>
    private static void EmitGateLine(RinglabCode c, string text)
    {
        c.A.mov(esi, c.Text(text));
        c.A.call((ushort)(RinglabMap.GateConsole | 3), 0);
    }

    /// <summary>A line that the ring prints itself, which its IOPL must allow.</summary>
    private static void EmitDirectLine(RinglabCode c, string text)
    {
        c.A.add(__dword_ptr[RinglabMap.IoPrivilegeLines], 1);
        c.A.mov(esi, c.Text(text));
        c.A.mov(eax, cs);
        c.A.call(c["line"]);
    }

    private static void EmitFail(RinglabCode c, string text)
    {
        c.A.mov(esi, c.Text(text));
        c.A.mov(eax, CallFail);
        c.A.@int(RinglabMap.VectorSystemCall);
    }

    /// <summary>Counts for the summary that this ring's code was entered; the number comes from CS.</summary>
    private static void EmitCountEntry(RinglabCode c)
    {
        c.A.mov(eax, cs);
        c.A.and(eax, 3);
        c.A.add(__dword_ptr[eax * 4 + RinglabMap.RingEntries], 1);
    }
}
