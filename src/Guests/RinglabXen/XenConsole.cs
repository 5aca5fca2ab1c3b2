using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Guests.RinglabXen.XenMap;

namespace VirtPS.Guests.RinglabXen;

/// <summary>Output and input through the console's ring, numbers as text, words of the command line. Routines clobber all but RBX, RBP, RSP and R12–R15.</summary>
internal static class XenConsole
{
    private const int In = 0, Out = 1024, InConsumed = 3072, InProduced = 3076, OutConsumed = 3080, OutProduced = 3084, OutSize = 2048, InSize = 1024, CommandLine = 128;

    public static void EmitText(XenCode c, string text)
    {
        c.LoadText(text);
        c.A.call(c["puts"]);
    }

    public static void EmitLine(XenCode c, string text) => EmitText(c, text + "\r\n");

    public static void EmitRoutines(XenCode c)
    {
        EmitPuts(c);
        EmitDecimal(c);
        EmitInput(c);
        EmitFindWord(c);
    }

    /// <summary>Sets an option where its word is on the command line.</summary>
    public static void EmitOption(XenCode c, string word, int option)
    {
        Assembler a = c.A;
        Label not = a.CreateLabel();
        c.LoadText(word);
        a.call(c["findword"]);
        a.test(eax, eax);
        a.je(not);
        a.or(__qword_ptr[rbx + Options], option);
        a.Label(ref not);
    }

    /// <summary><c>puts</c>: the text at RSI; a full ring is waited for.</summary>
    private static void EmitPuts(XenCode c)
    {
        Assembler a = c.A;
        Label next = a.CreateLabel(), wait = a.CreateLabel(), room = a.CreateLabel();
        c.Mark("puts");
        a.mov(r8, __qword_ptr[rbx + ConsolePage]);
        a.Label(ref next);
        a.mov(al, __byte_ptr[rsi]);
        a.test(al, al);
        a.je(c["notify"]);
        a.Label(ref wait);
        a.mov(edx, __dword_ptr[r8 + OutProduced]);
        a.mov(edi, edx);
        a.sub(edi, __dword_ptr[r8 + OutConsumed]);
        a.cmp(edi, OutSize);
        a.jb(room);
        a.push(rsi);
        a.call(c["notify"]);
        a.xor(edi, edi); // yield
        a.xor(esi, esi);
        XenKernel.EmitCall(c, XenKernel.SchedOp);
        a.pop(rsi);
        a.mov(al, __byte_ptr[rsi]);
        a.jmp(wait);
        a.Label(ref room);
        a.mov(edi, edx);
        a.and(edi, OutSize - 1);
        a.mov(__byte_ptr[r8 + rdi + Out], al);
        a.inc(edx);
        a.mov(__dword_ptr[r8 + OutProduced], edx);
        a.inc(rsi);
        a.jmp(next);
        c.Mark("notify"); // the way out of puts, too
        a.mov(rax, __qword_ptr[rbx + ConsolePort]);
        a.mov(__qword_ptr[rbx + Arguments], rax);
        a.mov(edi, 4); // send
        a.lea(rsi, __[rbx + Arguments]);
        XenKernel.EmitCall(c, XenKernel.EventChannelOp);
        a.ret();
    }

    /// <summary><c>putdec</c>: RAX in decimal.</summary>
    private static void EmitDecimal(XenCode c)
    {
        Assembler a = c.A;
        Label digit = a.CreateLabel();
        c.Mark("putdec");
        a.lea(rsi, __[rbx + XenMap.Decimal + 31]);
        a.mov(__byte_ptr[rsi], 0);
        a.mov(ecx, 10);
        a.Label(ref digit);
        a.xor(edx, edx);
        a.div(rcx);
        a.add(dl, (byte)'0');
        a.dec(rsi);
        a.mov(__byte_ptr[rsi], dl);
        a.test(rax, rax);
        a.jne(digit);
        a.jmp(c["puts"]);
    }

    /// <summary><c>input</c>: EAX = the last byte that came in, echoed like those before it; 0 for none.</summary>
    private static void EmitInput(XenCode c)
    {
        Assembler a = c.A;
        Label next = a.CreateLabel(), none = a.CreateLabel(), done = a.CreateLabel();
        c.Mark("input");
        a.push(r12);
        a.xor(r12d, r12d);
        a.Label(ref next);
        a.mov(r8, __qword_ptr[rbx + ConsolePage]);
        a.mov(edx, __dword_ptr[r8 + InConsumed]);
        a.cmp(edx, __dword_ptr[r8 + InProduced]);
        a.je(none);
        a.mov(edi, edx);
        a.and(edi, InSize - 1);
        a.movzx(r12d, __byte_ptr[r8 + rdi + In]);
        a.inc(edx);
        a.mov(__dword_ptr[r8 + InConsumed], edx);
        a.mov(__qword_ptr[rbx + XenMap.Decimal], r12);
        a.lea(rsi, __[rbx + XenMap.Decimal]);
        a.call(c["puts"]);
        a.jmp(next);
        a.Label(ref none);
        a.test(r12d, r12d);
        a.je(done);
        a.call(c["notify"]);
        a.Label(ref done);
        a.mov(eax, r12d);
        a.pop(r12);
        a.ret();
    }

    /// <summary><c>findword</c>: EAX = 1 when the word at RSI is one of the command line's.</summary>
    private static void EmitFindWord(XenCode c)
    {
        Assembler a = c.A;
        Label space = a.CreateLabel(), compare = a.CreateLabel(), skip = a.CreateLabel(), end = a.CreateLabel(), yes = a.CreateLabel(), no = a.CreateLabel(), go = a.CreateLabel();
        c.Mark("findword");
        a.mov(rdi, __qword_ptr[rbx + StartInfo]);
        a.add(rdi, CommandLine);
        a.Label(ref space);
        a.cmp(__byte_ptr[rdi], (byte)' ');
        a.jne(go);
        a.inc(rdi);
        a.jmp(space);
        a.Label(ref go);
        a.mov(rdx, rsi);
        a.Label(ref compare);
        a.mov(al, __byte_ptr[rdx]);
        a.test(al, al);
        a.je(end);
        a.cmp(al, __byte_ptr[rdi]);
        a.jne(skip);
        a.inc(rdx);
        a.inc(rdi);
        a.jmp(compare);
        a.Label(ref end);
        a.cmp(__byte_ptr[rdi], (byte)' ');
        a.je(yes);
        a.cmp(__byte_ptr[rdi], 0);
        a.je(yes);
        a.Label(ref skip);
        a.mov(al, __byte_ptr[rdi]);
        a.test(al, al);
        a.je(no);
        a.cmp(al, (byte)' ');
        a.je(space);
        a.inc(rdi);
        a.jmp(skip);
        a.Label(ref yes);
        a.mov(eax, 1);
        a.ret();
        a.Label(ref no);
        a.xor(eax, eax);
        a.ret();
    }
}
