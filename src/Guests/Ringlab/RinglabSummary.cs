using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.Ringlab;

/// <summary>What has been counted, as a table and as one line for programs; then power-off where that was asked for.</summary>
internal static class RinglabSummary
{
    public static void Emit(RinglabCode c)
    {
        Assembler a = c.A;
        c.Mark("summary");
        RinglabPlatform.EmitStopApicTimer(c);
        RinglabConsole.EmitText(c, "\r\n  ring  entered in protected mode\r\n");
        for (uint ring = 0; ring < 4; ring++)
        {
            RinglabConsole.EmitText(c, $"  {ring}     ");
            RinglabConsole.EmitDecimalAt(c, RinglabMap.RingEntries + (ring * 4));
            RinglabConsole.EmitText(c, "\r\n");
        }

        RinglabConsole.EmitText(c, "\r\nRINGLAB-OK rings=0,1,2,3");
        foreach ((string name, uint variable) in (ReadOnlySpan<(string, uint)>)[("gates", RinglabMap.GateCalls), ("refused", RinglabMap.Refused),
            ("int80", RinglabMap.Int80Calls), ("syscalls", RinglabMap.Syscalls), ("ticks", RinglabMap.PitTicks), ("ring3ticks", RinglabMap.PitTicksRing3),
            ("apicticks", RinglabMap.ApicTicks), ("pagefaults", RinglabMap.PageFaults)])
        {
            RinglabConsole.EmitText(c, $" {name}=");
            RinglabConsole.EmitDecimalAt(c, variable);
        }

        RinglabConsole.EmitText(c, "\r\n");
        a.mov(eax, __dword_ptr[RinglabMap.Options]);
        a.and(eax, RinglabMap.OptionExit | RinglabMap.OptionBench);
        a.cmp(eax, RinglabMap.OptionExit);
        a.je(c["summary.off"]);
        RinglabConsole.EmitRing0Line(c, "serial input: q = power off, r = reset, anything else is echoed");
        a.ret();

        c.Mark("benchdone");
        RinglabConsole.EmitText(c, $"RINGLAB-BENCH {RinglabUser.StormCalls} system calls, ticks=");
        RinglabConsole.EmitDecimalAt(c, RinglabMap.PitTicks);
        RinglabConsole.EmitText(c, "\r\n");
        a.test(__dword_ptr[RinglabMap.Options], RinglabMap.OptionExit);
        a.jne(c["summary.off"]);
        a.ret();

        c.Mark("summary.off");
        RinglabConsole.EmitRing0Line(c, "exit: power off");
        a.jmp(c["platform.off"]);
    }
}
