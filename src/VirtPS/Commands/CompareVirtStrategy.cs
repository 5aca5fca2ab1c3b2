using System.Diagnostics;
using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Transformations;

namespace VirtPS.Commands;

/// <summary>Compare-VirtStrategy: the same guest under every strategy that this host can run, one after the other.</summary>
[Cmdlet(VerbsData.Compare, "VirtStrategy")]
[OutputType(typeof(VirtStrategyComparison))]
public sealed class CompareVirtStrategy : VirtCmdlet
{
    // Linux makes the last of these that it finds /dev/console: a PC has no hvc0, and ttyS0 counts as found even where there is none.
    private const string DefaultCommandLine = "console=ttyS0 console=hvc0 panic=-1";

    /// <summary>The kernel; without it the embedded guest.</summary>
    [Parameter(Position = 0)]
    public string? Kernel { get; set; }

    [Parameter]
    public string? Initrd { get; set; }

    [Parameter]
    public string? CommandLine { get; set; }

    /// <summary>Console text that says that the guest is there; a .NET regular expression.</summary>
    [Parameter]
    public string? Pattern { get; set; }

    /// <summary>Only these strategies.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(StrategyCompleter))]
    public string[] Strategy { get; set; } = [];

    [Parameter]
    [SizeTransformation]
    public ulong Memory { get; set; } = 512ul << 20;

    [Parameter]
    public int ProcessorCount { get; set; } = 1;

    /// <summary>Seconds for each strategy.</summary>
    [Parameter]
    [ValidateRange(0.001, 86400.0)]
    public double Timeout { get; set; } = 120;

    protected override void ProcessRecord() => Terminating(() =>
    {
        VirtStrategy[] chosen = [.. Await(token => VirtHost.GetStrategiesAsync(probe: true, token)).Where(Wanted).OrderByDescending(s => s.Preference)];
        if (chosen.Length == 0)
            throw new VirtException(ErrorIds.StrategyNotFound, $"There is no strategy {string.Join(", ", Strategy)}.", "Get-VirtStrategy lists them.");
        var results = new List<VirtStrategyComparison>();
        for (int i = 0; i < chosen.Length; i++)
        {
            WriteProgress(new ProgressRecord(1, "Comparing strategies", chosen[i].Name) { PercentComplete = 100 * i / chosen.Length });
            results.Add(chosen[i].IsSupported == true ? Run(chosen[i].Name) : NotRun(chosen[i].Name, chosen[i].Reason));
        }

        WriteProgress(new ProgressRecord(1, "Comparing strategies", "Done") { RecordType = ProgressRecordType.Completed });
        TimeSpan? best = results.Min(r => r.BootTime);
        WriteObject(results.Select(r => r with { Ratio = r.BootTime / best }), enumerateCollection: true);
    });

    private bool Wanted(VirtStrategy strategy) => Strategy.Length == 0 || Strategy.Contains(strategy.Name, StringComparer.OrdinalIgnoreCase);

    private VirtStrategyComparison Run(string strategy)
    {
        VirtualMachine vm = Await(token => VirtHost.CreateAsync(Specification(strategy), token));
        try
        {
            var watch = Stopwatch.StartNew();
            Await(token => VirtHost.StartAsync(vm.Id, token));
            Await(token => VirtHost.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Console) { Pattern = Pattern ?? (Kernel is null ? "RINGLAB-OK" : "GUEST-READY") }, TimeSpan.FromSeconds(Timeout), token));
            TimeSpan time = watch.Elapsed;
            return Summarise(strategy, Await(token => VirtHost.GetAsync(vm.Id, token)).EngineTier, time, Await(token => VirtHost.MeasureRingAsync(vm.Id, token)));
        }
        catch (VirtException e)
        {
            return NotRun(strategy, e.Message);
        }
        finally
        {
            Remove(vm.Id);
        }
    }

    // Runs after Ctrl-C too, so it does not heed the pipeline's stop.
    private void Remove(Guid id) => Task.Run(async () =>
    {
        await VirtHost.StopAsync(id, StopKind.TurnOff).ConfigureAwait(false);
        await VirtHost.RemoveAsync(id).ConfigureAwait(false);
    }).GetAwaiter().GetResult();

    private VmSpecification Specification(string strategy) => new()
    {
        Name = $"compare-{strategy}-{Guid.NewGuid():N}",
        Strategy = strategy,
        Memory = Memory,
        ProcessorCount = ProcessorCount,
        Boot = Kernel is null
            ? new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = CommandLine ?? "" }
            : new BootConfiguration { Kernel = FullPath(Kernel), Initrd = Initrd is null ? null : FullPath(Initrd), CommandLine = CommandLine ?? DefaultCommandLine },
    };

    private static VirtStrategyComparison Summarise(string strategy, string? tier, TimeSpan time, IReadOnlyList<RingMeasurement> vcpus) => new()
    {
        Strategy = strategy,
        EngineTier = tier,
        BootTime = time,
        Ratio = null,
        ProcessorTime = vcpus.Aggregate(TimeSpan.Zero, (sum, v) => sum + v.RunTime),
        Instructions = vcpus.All(v => v.Instructions is not null) ? [.. Enumerable.Range(0, 4).Select(ring => vcpus.Aggregate(0ul, (sum, v) => sum + v.Instructions![ring]))] : null,
        // A strategy that does not see transitions has counted none, which is not the same as that there were none.
        Transitions = vcpus[0].Fidelity == RingFidelity.Exact ? Sum(vcpus.Select(v => v.Transitions)) : null,
        Exits = Sum(vcpus.Select(v => v.Exits)),
        Hypercalls = Sum(vcpus.Select(v => v.Hypercalls)),
        Fidelity = vcpus[0].Fidelity,
        StatusReason = "",
    };

    private static Dictionary<string, ulong> Sum(IEnumerable<IReadOnlyDictionary<string, ulong>> parts)
    {
        var all = new Dictionary<string, ulong>();
        foreach ((string key, ulong value) in parts.SelectMany(p => p))
            all[key] = all.GetValueOrDefault(key) + value;
        return all;
    }

    private static VirtStrategyComparison NotRun(string strategy, string reason) => new()
    {
        Strategy = strategy, EngineTier = null, BootTime = null, Ratio = null, ProcessorTime = null, Instructions = null, Transitions = null, Exits = null,
        Fidelity = null, StatusReason = reason,
    };
}
