using System.Collections;
using System.Management.Automation;
using System.Management.Automation.Language;
using VirtPS.Client;
using VirtPS.Sdk;

namespace VirtPS.Completion;

/// <summary>
/// Base of the completers. They read the live store; a store that cannot be read completes nothing, because an error has no place in the middle of
/// somebody's typing.
/// </summary>
public abstract class VirtCompleter : IArgumentCompleter
{
    public IEnumerable<CompletionResult> CompleteArgument(
        string commandName, string parameterName, string wordToComplete, CommandAst commandAst, IDictionary fakeBoundParameters)
    {
        var pattern = new WildcardPattern(wordToComplete.Trim('\'', '"') + "*", WildcardOptions.IgnoreCase);
        return Candidates(fakeBoundParameters)
            .Where(c => pattern.IsMatch(c.Text))
            .Select(c => new CompletionResult(Quote(c.Text), c.Text, CompletionResultType.ParameterValue, c.ToolTip));
    }

    private List<(string Text, string ToolTip)> Candidates(IDictionary bound)
    {
        try
        {
            using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3));
            return Task.Run(() => CandidatesAsync(VirtHost.Connect(), bound, limit.Token), limit.Token).GetAwaiter().GetResult();
        }
        catch (Exception e) when (e is VirtException or OperationCanceledException or IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }

    private protected abstract Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token);

    private static string Quote(string text) =>
        text.All(c => char.IsLetterOrDigit(c) || c is '-' or '_' or '.' or '/') ? text : $"'{text.Replace("'", "''", StringComparison.Ordinal)}'";
}

public sealed class VMNameCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token) =>
        [.. (await host.GetAsync((VmQuery?)null, token)).Machines.Select(vm => (vm.Name, $"{vm.State}, {vm.Strategy}, {vm.Memory >> 20} MiB"))];
}

public sealed class StrategyCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token) =>
        [.. (await host.GetStrategiesAsync(probe: false, token)).Select(s => (s.Name, s.Description))];
}

public sealed class DeviceModelCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token) =>
        [.. (await host.GetDeviceModelsAsync(token)).Select(m => (m.Model, m.Description))];
}

public sealed class DiskModelCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token) =>
        [.. (await host.GetDeviceModelsAsync(token)).Where(m => m.Class == "disk").Select(m => (m.Model, m.Description))];
}

public sealed class PluginCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token) =>
        [.. (await host.GetPluginsAsync(token)).Select(p => (p.Id, $"{p.Kind}, {p.Status}"))];
}

/// <summary>Base of completers for what belongs to the VM that is already on the command line.</summary>
public abstract class VMPartCompleter : VirtCompleter
{
    private protected override async Task<List<(string Text, string ToolTip)>> CandidatesAsync(VirtHost host, IDictionary bound, CancellationToken token)
    {
        string[] names = (bound["VMName"] ?? bound["Name"]) switch
        {
            string one => [one],
            object[] many => [.. many.Select(n => $"{n}")],
            _ => [],
        };
        var found = new List<(string, string)>();
        foreach (Sdk.Machine.VirtualMachine vm in (await host.GetAsync(new VmQuery { Names = names }, token)).Machines)
            found.AddRange(await PartsAsync(host, vm.Id, token));
        return found;
    }

    private protected abstract Task<IEnumerable<(string Text, string ToolTip)>> PartsAsync(VirtHost host, Guid vm, CancellationToken token);
}

/// <summary>Devices of the VM that is already on the command line.</summary>
public sealed class VMDeviceCompleter : VMPartCompleter
{
    private protected override async Task<IEnumerable<(string Text, string ToolTip)>> PartsAsync(VirtHost host, Guid vm, CancellationToken token) =>
        (await host.GetDevicesAsync(vm, token)).Where(d => !d.IsPlatform).Select(d => (d.Name, d.Model));
}

/// <summary>Disks of the VM that is already on the command line.</summary>
public sealed class VMDiskCompleter : VMPartCompleter
{
    private protected override async Task<IEnumerable<(string Text, string ToolTip)>> PartsAsync(VirtHost host, Guid vm, CancellationToken token) =>
        (await host.GetDisksAsync(vm, token)).Select(d => (d.Name, d.Path));
}
