using ScottPlot;

namespace VirtPS.Bench;

/// <summary>The run as one picture: per test a bar for ours and one for QEMU's, slowdown against native on a logarithmic axis.</summary>
internal static class SpeedPicture
{
    private static readonly Color s_ours = Color.FromHex("#2563eb");
    private static readonly Color s_qemu = Color.FromHex("#d1a054");

    public static void Save(SpeedRun run, string path)
    {
        var plot = new Plot();
        SpeedTest[] tests = [.. run.Tests.Where(t => t.OursToNative > 0)];
        var labels = new Tick[tests.Length];
        for (int i = 0; i < tests.Length; i++)
        {
            double y = tests.Length - i;
            labels[i] = new Tick(y, tests[i].Name);
            AddBar(plot, y + 0.2, tests[i].OursToNative, s_ours);
            AddBar(plot, y - 0.2, tests[i].QemuToNative, s_qemu);
        }

        double[] ticks = [0.5, 1, 2, 5, 10, 20, 50, 100, 200];
        plot.Axes.Left.TickGenerator = new ScottPlot.TickGenerators.NumericManual(labels);
        plot.Axes.Bottom.TickGenerator = new ScottPlot.TickGenerators.NumericManual([.. ticks.Select(v => new Tick(Math.Log2(v), $"{v} ×"))]);
        plot.Axes.Left.MajorTickStyle.Length = 0;
        plot.Grid.YAxisStyle.IsVisible = false;
        plot.Add.VerticalLine(0, 1.5f, Colors.Black);
        plot.Title("Time against native (1 ×), less is better");
        plot.ShowLegend([new LegendItem { LabelText = "VirtPS", FillColor = s_ours }, new LegendItem { LabelText = "QEMU TCG", FillColor = s_qemu }], Alignment.LowerRight);
        plot.Axes.SetLimitsY(0.3, tests.Length + 0.7);
        plot.SaveSvg(path, 860, 90 + 26 * tests.Length);
    }

    private static void AddBar(Plot plot, double position, double? slowdown, Color color)
    {
        if (slowdown is null)
            return;
        plot.Add.Bar(new Bar
        {
            Position = position, Value = Math.Log2(slowdown.Value), Size = 0.38, FillColor = color, LineWidth = 0, Orientation = Orientation.Horizontal,
        });
    }
}
