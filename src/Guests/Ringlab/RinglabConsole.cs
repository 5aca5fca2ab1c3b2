using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>
/// Output on COM1 and the routines that format it. They use 32-bit registers and addresses only, and no stack beyond return addresses, so that one text
/// serves both the 32-bit and the 64-bit part. All clobber EAX, ECX, EDX, ESI.
/// </summary>
internal static class RinglabConsole
{
    public const ushort Com1 = 0x3F8;
    private const ushort InterruptEnable = Com1 + 1, FifoControl = Com1 + 2, LineControl = Com1 + 3, ModemControl = Com1 + 4, LineStatus = Com1 + 5;

    /// <summary>The routines: <c>putc</c> (AL), <c>puts</c> (ESI), <c>puthex</c> and <c>putdec</c> (EAX), <c>prefix</c> (EAX: ring number).</summary>
    public static void EmitRoutines(RinglabCode c)
    {
        EmitPutCharacter(c);
        EmitPutString(c);
        EmitPutHexadecimal(c);
        EmitPutDecimal(c);
        EmitPrefix(c);
    }

    /// <summary>115200 baud, 8N1, FIFOs on; interrupts off until long mode.</summary>
    public static void EmitInitialise(RinglabCode c)
    {
        foreach ((ushort port, byte value) in (ReadOnlySpan<(ushort, byte)>)[(InterruptEnable, 0), (LineControl, 0x80), (Com1, 1), (InterruptEnable, 0),
            (LineControl, 3), (FifoControl, 7), (ModemControl, 0x0B)])
            RinglabPlatform.EmitOut8(c, port, value);
    }

    /// <summary>Interrupt when a byte has come in.</summary>
    public static void EmitEnableInput(RinglabCode c) => RinglabPlatform.EmitOut8(c, InterruptEnable, 1);

    public static void EmitText(RinglabCode c, string text)
    {
        c.A.mov(esi, c.Text(text));
        c.A.call(c["puts"]);
    }

    /// <summary>A line of ring 0's own.</summary>
    public static void EmitRing0Line(RinglabCode c, string text) => EmitText(c, $"[ring 0] {text}\r\n");

    public static void EmitDecimalAt(RinglabCode c, uint variable)
    {
        c.A.mov(eax, __dword_ptr[variable]);
        c.A.call(c["putdec"]);
    }

    private static void EmitPutCharacter(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("putc");
        a.mov(ah, al);
        a.mov(dx, LineStatus);
        c.Mark("putc.wait");
        a.@in(al, dx);
        a.test(al, 0x20); // transmitter holding register empty
        a.je(c["putc.wait"]);
        a.mov(al, ah);
        a.mov(dx, Com1);
        a.@out(dx, al);
        a.ret();
    }

    private static void EmitPutString(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("puts");
        a.mov(al, __byte_ptr[esi]);
        a.test(al, al);
        a.je(c["puts.done"]);
        a.call(c["putc"]);
        a.add(esi, 1);
        a.jmp(c["puts"]);
        c.Mark("puts.done");
        a.ret();
    }

    /// <summary>0x and as many digits as the number has.</summary>
    private static void EmitPutHexadecimal(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("puthex");
        a.mov(esi, eax);
        a.mov(al, (byte)'0');
        a.call(c["putc"]);
        a.mov(al, (byte)'x');
        a.call(c["putc"]);
        a.mov(ecx, 28);
        c.Mark("puthex.skip"); // leading zeros
        a.mov(eax, esi);
        a.shr(eax, cl);
        a.jne(c["puthex.digit"]);
        a.sub(ecx, 4);
        a.jg(c["puthex.skip"]);
        c.Mark("puthex.digit");
        a.mov(eax, esi);
        a.shr(eax, cl);
        a.and(eax, 0xF);
        a.add(al, (byte)'0');
        a.cmp(al, (byte)'9');
        a.jbe(c["puthex.put"]);
        a.add(al, (byte)('a' - '9' - 1));
        c.Mark("puthex.put");
        a.call(c["putc"]);
        a.sub(ecx, 4);
        a.jns(c["puthex.digit"]);
        a.ret();
    }

    private static void EmitPutDecimal(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("putdec");
        a.mov(esi, RinglabMap.DecimalBuffer + 15);
        a.mov(__byte_ptr[esi], 0);
        a.mov(ecx, 10);
        c.Mark("putdec.digit");
        a.xor(edx, edx);
        a.div(ecx);
        a.add(dl, (byte)'0');
        a.sub(esi, 1);
        a.mov(__byte_ptr[esi], dl);
        a.test(eax, eax);
        a.jne(c["putdec.digit"]);
        a.jmp(c["puts"]);
    }

    private static void EmitPrefix(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("prefix");
        a.mov(ecx, eax);
        EmitText(c, "[ring ");
        a.lea(eax, __[ecx + '0']);
        a.call(c["putc"]);
        EmitText(c, "] ");
        a.ret();
    }
}
