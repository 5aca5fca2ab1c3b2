using System.Management.Automation;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;

namespace VirtPS.Commands;

/// <summary>Show-VirtRing: the ring diagram of a VM's strategy, with where its processors are now.</summary>
[Cmdlet(VerbsCommon.Show, "VirtRing", DefaultParameterSetName = NameSet)]
[OutputType(typeof(string))]
public sealed class ShowVirtRing : VirtVMCmdlet
{
    /// <summary>Letters and lines of ASCII only.</summary>
    [Parameter]
    public SwitchParameter Ascii { get; set; }

    /// <summary>Show the model alone, of this strategy, without a VM.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Strategy")]
    [ArgumentCompleter(typeof(StrategyCompleter))]
    public string? Strategy { get; set; }

    protected override void ProcessRecord()
    {
        if (Strategy is null)
        {
            base.ProcessRecord();
            return;
        }

        PerRecord(Strategy, () => Draw(Find(Strategy), $"Strategy {Strategy}", []));
    }

    private protected override void Process(VirtualMachine vm)
    {
        IReadOnlyList<RingState> states = vm.WorkerProcessId is null ? [] : Await(token => VirtHost.GetRingStatesAsync(vm.Id, token));
        Draw(Find(vm.Strategy), $"{vm.Name} ({vm.State}), strategy {vm.Strategy}", states);
    }

    private VirtStrategy Find(string name)
    {
        IReadOnlyList<VirtStrategy> all = Await(token => VirtHost.GetStrategiesAsync(probe: true, token));
        VirtStrategy found = all.FirstOrDefault(s => string.Equals(s.Name, name, StringComparison.OrdinalIgnoreCase))
            ?? throw new VirtException(ErrorIds.StrategyNotFound, $"There is no strategy '{name}'; there are {string.Join(", ", all.Select(s => s.Name))}.", null, name);
        if (found.RingModel.Count == 0)
            throw new VirtException(ErrorIds.StrategyUnavailable, $"The strategy '{name}' could not be asked: {found.Reason}", found.RecommendedAction, name);
        return found;
    }

    private void Draw(VirtStrategy strategy, string title, IReadOnlyList<RingState> states) =>
        WriteObject(RingDiagram.Draw(title, strategy.RingModel, states, Ascii), enumerateCollection: true);
}

/// <summary>Draws rows of rings as boxes, outermost ring on top.</summary>
internal static class RingDiagram
{
    private static readonly string[] Headings = ["Ring", "Guest's view", "Textbook model", "What the host really runs", "Now here"];

    internal static IEnumerable<string> Draw(string title, IReadOnlyList<RingModelRow> rows, IReadOnlyList<RingState> states, bool ascii)
    {
        List<string[]> cells = [.. rows.Select(r => new[] { r.Ring < 0 ? "VMM" : $"{r.Ring}", r.Guest, r.Classical, r.Actual, Here(r, states) })];
        int[] widths = [.. Headings.Select((h, i) => Math.Max(h.Length, cells.Max(c => c[i].Length)))];
        (string h, string v, string[] corners) = ascii
            ? ("-", "|", new[] { "+", "+", "+", "+", "+", "+", "+", "+", "+" })
            : ("─", "│", new[] { "┌", "┬", "┐", "├", "┼", "┤", "└", "┴", "┘" });

        yield return title;
        yield return Rule(widths, h, corners[0], corners[1], corners[2]);
        yield return Row(Headings, widths, v);
        foreach (string[] row in cells)
        {
            yield return Rule(widths, h, corners[3], corners[4], corners[5]);
            yield return Row(row, widths, v);
        }

        yield return Rule(widths, h, corners[6], corners[7], corners[8]);
        if (states.Count > 0)
            yield return $"Fidelity: {string.Join(", ", states.Select(s => s.Fidelity).Distinct())}. The textbook column is the model; the one beside it is what happens.";
    }

    private static string Here(RingModelRow row, IReadOnlyList<RingState> states) =>
        string.Join(", ", states.Where(s => s.GuestRing == row.Ring).Select(s => $"vCPU {s.Vcpu}{(s.Mode is { } mode ? $" ({mode})" : "")}"));

    private static string Rule(int[] widths, string h, string left, string middle, string right) =>
        left + string.Join(middle, widths.Select(w => string.Concat(Enumerable.Repeat(h, w + 2)))) + right;

    private static string Row(string[] cells, int[] widths, string v) =>
        v + string.Join(v, cells.Select((c, i) => $" {c.PadRight(widths[i])} ")) + v;
}
