using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>
/// What ringlab asks of the machine below it: interrupt controllers, timers, power. Each is a small routine of its own, so that another guest interface (one
/// with hypercalls) can put its own in the place. All clobber EAX, ECX, EDX.
/// </summary>
internal static class RinglabPlatform
{
    private const ushort PicMaster = 0x20, PicSlave = 0xA0, Pit = 0x40, PmControl = 0x604, ResetControl = 0xCF9, KeyboardCommand = 0x64;
    private const uint LocalApic = 0xFEE0_0000, ApicEoi = 0xB0, ApicSpurious = 0xF0, ApicTimer = 0x320, ApicLint0 = 0x350, ApicInitialCount = 0x380, ApicDivide = 0x3E0;

    /// <summary>PIT input clock in Hz, and what it is divided by for 100 Hz.</summary>
    private const int PitClock = 1_193_182, PitDivisor = PitClock / 100;

    /// <summary>Ten milliseconds on a bus of 1 GHz.</summary>
    private const uint ApicPeriod = 10_000_000;

    public static void EmitOut8(RinglabCode c, ushort port, byte value)
    {
        c.A.mov(dx, port);
        c.A.mov(al, value);
        c.A.@out(dx, al);
    }

    /// <summary>Routines that both parts have: <c>platform.off</c> and <c>platform.reset</c> do not return.</summary>
    public static void EmitPowerRoutines(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("platform.off");
        // PM1a control: SLP_EN with SLP_TYP 5, this machine's S5; on a machine with the PIIX4's coding, where S5 is 0, the second write does it.
        foreach (ushort value in (ReadOnlySpan<ushort>)[(5 << 10) | (1 << 13), 1 << 13])
        {
            a.mov(dx, PmControl);
            a.mov(ax, value);
            a.@out(dx, ax);
        }

        a.jmp(c["platform.stop"]);
        c.Mark("platform.reset");
        EmitOut8(c, ResetControl, 0x02);
        EmitOut8(c, ResetControl, 0x06);
        EmitOut8(c, KeyboardCommand, 0xFE); // pulse the reset line, where there is no reset register
        c.Mark("platform.stop");
        a.cli();
        a.hlt();
        a.jmp(c["platform.stop"]);
    }

    /// <summary>Moves the 8259s' interrupts to vectors 0x20–0x2F and masks them all (8259A data sheet, ICW1–4).</summary>
    public static void EmitInitialisePic(RinglabCode c)
    {
        foreach ((ushort port, byte first, byte cascade) in (ReadOnlySpan<(ushort, byte, byte)>)[(PicMaster, RinglabMap.PicFirst, 4), (PicSlave, RinglabMap.PicFirst + 8, 2)])
        {
            EmitOut8(c, port, 0x11);
            EmitOut8(c, (ushort)(port + 1), first);
            EmitOut8(c, (ushort)(port + 1), cascade);
            EmitOut8(c, (ushort)(port + 1), 1);
            EmitOut8(c, (ushort)(port + 1), 0xFF);
        }
    }

    /// <summary>Lets the timer's and COM1's interrupts through.</summary>
    public static void EmitUnmaskPic(RinglabCode c) => EmitOut8(c, PicMaster + 1, 0xEE);

    /// <summary>Non-specific end of interrupt; only AL is changed.</summary>
    public static void EmitPicEoi(RinglabCode c)
    {
        c.A.mov(al, 0x20);
        c.A.@out((byte)PicMaster, al);
    }

    /// <summary>Channel 0 as rate generator at 100 Hz.</summary>
    public static void EmitStartPit(RinglabCode c)
    {
        EmitOut8(c, Pit + 3, 0x34);
        EmitOut8(c, Pit, PitDivisor & 0xFF);
        EmitOut8(c, Pit, PitDivisor >> 8);
    }

    /// <summary>
    /// Virtual wire mode (MP specification §3.6.2.2): the 8259's output reaches the processor through LINT0. Firmware would have done it; where there is none
    /// LINT0 is masked. Sets <see cref="RinglabMap.HasApic"/>. Clobbers EBX.
    /// </summary>
    public static void EmitInitialiseApic(RinglabCode c)
    {
        Assembler a = c.A;
        a.mov(eax, 1);
        a.cpuid();
        a.test(edx, 1 << 9);
        a.je(c["apic.none"]);
        a.mov(__dword_ptr[RinglabMap.HasApic], 1);
        EmitApicWrite(c, ApicSpurious, 0x100 | RinglabMap.VectorSpuriousApic);
        EmitApicWrite(c, ApicLint0, 0x700);
        c.Mark("apic.none");
    }

    /// <summary>The local APIC's timer, periodic.</summary>
    public static void EmitStartApicTimer(RinglabCode c)
    {
        c.A.cmp(__dword_ptr[RinglabMap.HasApic], 0);
        c.A.je(c["apic.notimer"]);
        EmitApicWrite(c, ApicDivide, 0xB); // by 1
        EmitApicWrite(c, ApicTimer, 0x2_0000 | RinglabMap.VectorApicTimer);
        EmitApicWrite(c, ApicInitialCount, ApicPeriod);
        c.Mark("apic.notimer");
    }

    /// <summary>Stops that timer: an idle guest should wake its host for one timer only.</summary>
    public static void EmitStopApicTimer(RinglabCode c)
    {
        c.A.cmp(__dword_ptr[RinglabMap.HasApic], 0);
        c.A.je(c["apic.stopped"]);
        EmitApicWrite(c, ApicTimer, 0x1_0000 | RinglabMap.VectorApicTimer);
        c.Mark("apic.stopped");
    }

    public static void EmitApicEoi(RinglabCode c) => EmitApicWrite(c, ApicEoi, 0);

    private static void EmitApicWrite(RinglabCode c, uint register, uint value)
    {
        // Through a register: as a 32-bit displacement the address would be sign-extended in long mode.
        c.A.mov(ecx, LocalApic + register);
        c.A.mov(__dword_ptr[ecx], value);
    }
}
