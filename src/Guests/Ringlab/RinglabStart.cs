using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>The first instructions: entered by Multiboot or PVH in 32-bit protected mode, they read the command line and load ringlab's own tables.</summary>
internal static class RinglabStart
{
    private const uint MultibootMagic = 0x2BADB002, PvhMagic = 0x336EC578;

    public static void Emit(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("start");
        a.cli();
        a.cld();
        a.mov(esp, RinglabMap.Ring0Stack);
        EmitFindCommandLine(c);
        EmitOption(c, "exit", RinglabMap.OptionExit);
        EmitOption(c, "bench", RinglabMap.OptionBench);
        RinglabConsole.EmitInitialise(c);
        RinglabPlatform.EmitInitialisePic(c);
        RinglabPlatform.EmitInitialiseApic(c);
        a.lgdt(__[RinglabTables.Gdt32Pointer]);
        a.jmp(RinglabMap.Code0, c.AddressOf("start.segments"));
        c.Mark("start.segments");
        a.mov(eax, RinglabMap.Data0);
        a.mov(ss, eax);
        // The data segments stay ring 3's in all rings: an outer ring may not use an inner ring's, an inner one may use these.
        a.mov(eax, RinglabMap.Data3);
        a.mov(ds, eax);
        a.mov(es, eax);
        a.mov(fs, eax);
        a.mov(gs, eax);
        a.mov(eax, RinglabMap.Task32);
        a.ltr(ax);
        a.lidt(__[RinglabTables.Idt32Pointer]);
        a.jmp(c["protected"]);
        EmitFindWord(c);
    }

    /// <summary>EDI = the command line. EAX and EBX are still the loader's.</summary>
    private static void EmitFindCommandLine(RinglabCode c)
    {
        Assembler a = c.A;
        a.mov(edi, c.Text(""));
        a.cmp(eax, MultibootMagic);
        a.jne(c["start.pvh"]);
        a.test(__dword_ptr[ebx], 4); // flags bit 2: there is a command line
        a.je(c["start.options"]);
        a.mov(edi, __dword_ptr[ebx + 16]);
        a.jmp(c["start.options"]);
        c.Mark("start.pvh");
        a.cmp(__dword_ptr[ebx], PvhMagic);
        a.jne(c["start.options"]);
        a.cmp(__dword_ptr[ebx + 24], 0);
        a.je(c["start.options"]);
        a.mov(edi, __dword_ptr[ebx + 24]);
        c.Mark("start.options");
    }

    private static void EmitOption(RinglabCode c, string word, uint option)
    {
        c.A.mov(ebp, c.Text(word));
        c.A.mov(ecx, option);
        c.A.call(c["findword"]);
        c.A.or(__dword_ptr[RinglabMap.Options], eax);
    }

    /// <summary><c>findword</c>: EAX = ECX when the word at EBP is one of the words at EDI, else 0.</summary>
    private static void EmitFindWord(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("findword");
        a.mov(esi, edi);
        c.Mark("findword.space");
        a.cmp(__byte_ptr[esi], ' ');
        a.jne(c["findword.try"]);
        a.add(esi, 1);
        a.jmp(c["findword.space"]);
        c.Mark("findword.try");
        a.mov(edx, ebp);
        c.Mark("findword.compare");
        a.mov(al, __byte_ptr[edx]);
        a.test(al, al);
        a.je(c["findword.end"]);
        a.cmp(al, __byte_ptr[esi]);
        a.jne(c["findword.skip"]);
        a.add(edx, 1);
        a.add(esi, 1);
        a.jmp(c["findword.compare"]);
        c.Mark("findword.end"); // the word is used up: it counts when the text's word is, too
        a.cmp(__byte_ptr[esi], ' ');
        a.je(c["findword.yes"]);
        a.cmp(__byte_ptr[esi], 0);
        a.je(c["findword.yes"]);
        c.Mark("findword.skip");
        a.mov(al, __byte_ptr[esi]);
        a.test(al, al);
        a.je(c["findword.no"]);
        a.cmp(al, (byte)' ');
        a.je(c["findword.space"]);
        a.add(esi, 1);
        a.jmp(c["findword.skip"]);
        c.Mark("findword.yes");
        a.mov(eax, ecx);
        a.ret();
        c.Mark("findword.no");
        a.xor(eax, eax);
        a.ret();
    }
}
