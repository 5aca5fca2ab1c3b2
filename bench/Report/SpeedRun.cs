using System.Text.Json;

namespace VirtPS.Bench;

/// <summary>One run of Measure-Speed.ps1, as it wrote it. Times are seconds.</summary>
internal sealed record SpeedRun(
    string Date, string Processor, int Processors, int Rounds, int Seconds, string? Qemu, string[] Options,
    SpeedTest[] Tests, SpeedTest[] Scaling, SpeedBoot[] Boots)
{
    public static SpeedRun Read(string path) =>
        JsonSerializer.Deserialize<SpeedRun>(File.ReadAllText(path)) ?? throw new InvalidDataException($"{path} holds no run.");

    /// <summary>Least time of the boots of a side and kind; null where there was none.</summary>
    public double? Boot(string side, string kind) => Boots.Where(b => b.Side == side && b.Kind == kind).Select(b => (double?)b.Seconds).Min();
}

/// <summary>A test on the host, in our guest and in QEMU's. For the second processor the figures are factors.</summary>
internal sealed record SpeedTest(string? Class, string Name, double? Native, double? Ours, double? Qemu)
{
    /// <summary>How many times longer ours takes than the host.</summary>
    public double? OursToNative => Ours / Native;

    public double? QemuToNative => Qemu / Native;

    /// <summary>How many times faster ours is than QEMU's.</summary>
    public double? QemuToOurs => Qemu / Ours;
}

/// <summary>Seconds from power-on to the console line; the worker's own memory then.</summary>
internal sealed record SpeedBoot(string Side, string Kind, double Seconds, double? WorkerMiB);

/// <summary>A row of what must be reached.</summary>
internal sealed record SpeedGoal(string Class, string Title, double? MostToNative, double LeastToQemu)
{
    public static IReadOnlyList<SpeedGoal> All { get; } =
    [
        new("integer", "integer loops", 2.2, 2),
        new("program", "programs from Debian", 2.4, 2.5),
        new("float", "scalar and packed double, SSE2 and AVX2", 1.8, 20),
        new("system", "fork+exec, pipes, system calls, page faults, rep movs", 5, 2),
    ];
}

internal static class Mean
{
    /// <summary>Geometric mean of what there is; null when there is nothing.</summary>
    public static double? Geometric(IEnumerable<double?> values)
    {
        double[] logs = [.. values.Where(v => v > 0).Select(v => Math.Log(v!.Value))];
        return logs.Length == 0 ? null : Math.Exp(logs.Average());
    }
}
