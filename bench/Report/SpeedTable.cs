using System.Globalization;
using System.Text;

namespace VirtPS.Bench;

/// <summary>The run as Markdown.</summary>
internal static class SpeedTable
{
    public static string Write(SpeedRun run, string? picture)
    {
        var text = new StringBuilder();
        string options = run.Options.Length == 0 ? "" : $" Options: {string.Join(", ", run.Options)}.";
        text.AppendLine(CultureInfo.InvariantCulture, $"{run.Processor}, {run.Processors} processors, {run.Date}; {run.Qemu ?? "no QEMU"}; {run.Rounds} rounds in {run.Seconds} s, each side's least time of each test.{options}");
        text.AppendLine();
        WriteSummary(text, run);
        if (picture is not null)
            text.AppendLine().AppendLine(CultureInfo.InvariantCulture, $"![Slowdown against native, ours and QEMU TCG]({picture})");
        WriteTests(text, run);
        return text.ToString();
    }

    private static void WriteSummary(StringBuilder text, SpeedRun run)
    {
        text.AppendLine("| guest work (geometric mean) | : native | reach | QEMU : ours | reach |").AppendLine("|---|---|---|---|---|");
        foreach (SpeedGoal goal in SpeedGoal.All)
        {
            SpeedTest[] tests = [.. run.Tests.Where(t => t.Class == goal.Class)];
            if (tests.Length == 0)
                continue;
            double? native = Mean.Geometric(tests.Select(t => t.OursToNative)), qemu = Mean.Geometric(tests.Select(t => t.QemuToOurs));
            text.AppendLine(CultureInfo.InvariantCulture, $"| {goal.Title} | {Judge(native, native <= goal.MostToNative)} | ≤ {goal.MostToNative} | {Judge(qemu, qemu >= goal.LeastToQemu)} | ≥ {goal.LeastToQemu} |");
        }

        double? cold = run.Boot("ours", "cold"), warm = run.Boot("ours", "warm"), other = run.Boot("qemu", "cold");
        WriteBoot(text, "Debian's kernel, power-on to the first line of /init, cold", cold, other, 0.8);
        WriteBoot(text, "the same, warm", warm, other, 0.4);
        double? scaling = Mean.Geometric(run.Scaling.Select(t => t.Ours));
        if (scaling is not null)
        {
            double? native = Mean.Geometric(run.Scaling.Select(t => t.Native)), qemu = Mean.Geometric(run.Scaling.Select(t => t.Qemu));
            text.AppendLine(CultureInfo.InvariantCulture, $"| two vCPUs, parallel work, times one (host {Number(native)}, QEMU {Number(qemu)}) | {Judge(scaling, scaling >= 1.8)} | ≥ 1.8 | | |");
        }

        double? memory = run.Boots.Max(b => b.WorkerMiB);
        if (memory is not null)
            text.AppendLine(CultureInfo.InvariantCulture, $"| worker's memory with the guest's own pages taken out, after the boot | {memory:0} MiB | | | |");
    }

    private static void WriteBoot(StringBuilder text, string title, double? ours, double? qemu, double most)
    {
        if (ours is not null)
            text.AppendLine(CultureInfo.InvariantCulture, $"| {title}: {ours:0.00} s (QEMU {Number(qemu)} s) | | | {Judge(ours / qemu, ours / qemu <= most)} of QEMU's time | ≤ {most} |");
    }

    private static void WriteTests(StringBuilder text, SpeedRun run)
    {
        text.AppendLine().AppendLine("| test | native ms | ours ms | QEMU ms | ours : native | QEMU : native | QEMU : ours |").AppendLine("|---|---|---|---|---|---|---|");
        foreach (SpeedTest t in run.Tests)
        {
            text.AppendLine(CultureInfo.InvariantCulture,
                $"| {t.Name} | {t.Native * 1000:0.0} | {t.Ours * 1000:0.0} | {t.Qemu * 1000:0.0} | {Number(t.OursToNative)} | {Number(t.QemuToNative)} | {Number(t.QemuToOurs)} |");
        }
    }

    private static string Judge(double? value, bool reached) => value is null ? "not measured" : reached ? $"**{Number(value)}**" : $"{Number(value)}, missed";

    private static string Number(double? value) => value is null ? "–" : value.Value.ToString(value < 10 ? "0.00" : "0.0", CultureInfo.InvariantCulture);
}
