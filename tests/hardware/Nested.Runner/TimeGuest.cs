using VirtPS.Engine;
using VirtPS.Sdk.Machine;

namespace VirtPS.Nested.Runner;

/// <summary>A guest that does nothing but store its TSC: what it shows must be the machine's TSC, before and after a pause, and must stand still in one.</summary>
internal static class TimeGuest
{
    private const ulong Place = 0x600;

    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

    // 16-bit: again: rdtsc; mov [0x600], eax; mov [0x604], edx; jmp again
    private static readonly byte[] s_code = [0x0F, 0x31, 0x66, 0xA3, 0x00, 0x06, 0x66, 0x89, 0x16, 0x04, 0x06, 0xEB, 0xF3];

    public static string Run(IMachineParts parts, string irqchip)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(file, s_code);
            var console = new TextConsole();
            var boot = new BootConfiguration { Kind = BootKind.Flat, Kernel = file, EntryMode = FlatEntryMode.Real16 };
            using Machine machine = Guests.Build(parts, console, boot, 16 << 20, 1, irqchip);
            machine.PowerOn();
            Guests.Require(SpinWait.SpinUntil(() => GuestTsc(machine) != 0, s_limit), "never ran", machine, console);
            // RESET set the TSC to 0 a little after VM time began.
            double offset = Lead(machine);
            machine.Pause();
            ulong paused = GuestTsc(machine);
            Thread.Sleep(300);
            Guests.Require(GuestTsc(machine) == paused, "runs while paused", machine, console);
            machine.Resume();
            Guests.Require(SpinWait.SpinUntil(() => GuestTsc(machine) != paused, s_limit), "does not go on", machine, console);
            double moved = Lead(machine) - offset;
            Guests.Require(Math.Abs(moved) < 0.005, FormattableString.Invariant($"moved by {moved * 1000:0.0} ms against VM time"), machine, console);
            return FormattableString.Invariant($"moved by {moved * 1000:0.000} ms");
        }
        finally
        {
            File.Delete(file);
        }
    }

    /// <summary>Seconds by which the guest's TSC leads the machine's; of many readings the one that is least late: on one processor, one that was taken right when the guest lost it.</summary>
    private static double Lead(Machine machine)
    {
        double best = double.MinValue;
        for (int i = 0; i < 60; i++)
        {
            ulong now = machine.Clock.MachineTsc;
            ulong guest = GuestTsc(machine);
            // A reader that lost the processor itself would find the guest ahead.
            if ((machine.Clock.MachineTsc - now) * 1000 < machine.Clock.Tsc.Frequency)
                best = Math.Max(best, (long)(guest - now) / (double)machine.Clock.Tsc.Frequency);
            Thread.Sleep(1);
        }

        return best;
    }

    /// <summary>Its halves are written one after the other: read until two readings agree in the upper one.</summary>
    private static ulong GuestTsc(Machine machine)
    {
        Span<byte> first = stackalloc byte[8], second = stackalloc byte[8];
        while (true)
        {
            machine.TryReadPhysical(Place, first);
            machine.TryReadPhysical(Place, second);
            ulong a = BitConverter.ToUInt64(first), b = BitConverter.ToUInt64(second);
            if (b >= a && b - a < uint.MaxValue / 2)
                return b;
        }
    }
}
