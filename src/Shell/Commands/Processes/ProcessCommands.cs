using System.ComponentModel;
using System.Diagnostics;
using System.Management.Automation;

namespace VirtPS.Shell.Commands.Processes;

/// <summary>Base of the cmdlets that take processes by name, id or object.</summary>
public abstract class ProcessCommand : PSCmdlet
{
    private protected IEnumerable<Process> Find(string[]? names, int[]? ids, Process[]? objects)
    {
        if (objects is not null)
        {
            return objects;
        }
        if (ids is not null)
        {
            return ids.Select(ById).OfType<Process>();
        }
        Process[] all = Process.GetProcesses();
        return names is null ? all.OrderBy(NameOf, StringComparer.OrdinalIgnoreCase).ThenBy(p => p.Id) : names.SelectMany(n => ByName(all, n));
    }

    private Process? ById(int id)
    {
        try
        {
            return Process.GetProcessById(id);
        }
        catch (ArgumentException)
        {
            Missing($"Cannot find a process with the process identifier {id}.", "NoProcessFoundForGivenId", id);
            return null;
        }
    }

    private List<Process> ByName(Process[] all, string name)
    {
        var pattern = WildcardPattern.Get(name, WildcardOptions.IgnoreCase);
        var found = all.Where(p => pattern.IsMatch(NameOf(p))).OrderBy(NameOf, StringComparer.OrdinalIgnoreCase).ThenBy(p => p.Id).ToList();
        if (found.Count == 0 && !WildcardPattern.ContainsWildcardCharacters(name))
        {
            Missing($"Cannot find a process with the name \"{name}\". Verify the process name and call the cmdlet again.", "NoProcessFoundForGivenName", name);
        }
        return found;
    }

    private void Missing(string message, string id, object target) =>
        WriteError(new ErrorRecord(new ArgumentException(message), id, ErrorCategory.ObjectNotFound, target));

    /// <summary>The process's name; "" when it has just ended.</summary>
    private protected static string NameOf(Process process)
    {
        try
        {
            return process.ProcessName;
        }
        catch (InvalidOperationException)
        {
            return "";
        }
    }
}

/// <summary>Get-Process.</summary>
[Cmdlet(VerbsCommon.Get, "Process", DefaultParameterSetName = "Name")]
[OutputType(typeof(Process))]
public sealed class GetProcessCommand : ProcessCommand
{
    [Alias("ProcessName")]
    [Parameter(Position = 0, ParameterSetName = "Name", ValueFromPipelineByPropertyName = true)]
    public string[]? Name { get; set; }

    [Alias("PID")]
    [Parameter(ParameterSetName = "Id", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public int[]? Id { get; set; }

    [Parameter(ParameterSetName = "InputObject", Mandatory = true, ValueFromPipeline = true)]
    public Process[]? InputObject { get; set; }

    protected override void ProcessRecord() => WriteObject(Find(Name, Id, InputObject), enumerateCollection: true);
}

/// <summary>Stop-Process.</summary>
[Cmdlet(VerbsLifecycle.Stop, "Process", DefaultParameterSetName = "Id", SupportsShouldProcess = true)]
[OutputType(typeof(Process))]
public sealed class StopProcessCommand : ProcessCommand
{
    [Alias("ProcessName")]
    [Parameter(ParameterSetName = "Name", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[]? Name { get; set; }

    [Parameter(Position = 0, ParameterSetName = "Id", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public int[]? Id { get; set; }

    [Parameter(Position = 0, ParameterSetName = "InputObject", Mandatory = true, ValueFromPipeline = true)]
    public Process[]? InputObject { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void ProcessRecord()
    {
        foreach (Process process in Find(Name, Id, InputObject))
        {
            string label = $"{NameOf(process)} ({process.Id})";
            if (!ShouldProcess(label))
            {
                continue;
            }
            try
            {
                if (!process.HasExited)
                {
                    process.Kill();
                }
            }
            catch (Exception e) when (e is Win32Exception or InvalidOperationException)
            {
                WriteError(new ErrorRecord(
                    new InvalidOperationException($"Cannot stop process \"{label}\" because of the following error: {e.Message}", e), "CouldNotStopProcess", ErrorCategory.CloseError, process));
                continue;
            }
            if (PassThru)
            {
                WriteObject(process);
            }
        }
    }
}

/// <summary>Wait-Process.</summary>
[Cmdlet(VerbsLifecycle.Wait, "Process", DefaultParameterSetName = "Name")]
[OutputType(typeof(Process))]
public sealed class WaitProcessCommand : ProcessCommand, IDisposable
{
    private readonly List<Process> _processes = [];
    private readonly CancellationTokenSource _stop = new();

    [Alias("ProcessName")]
    [Parameter(Position = 0, ParameterSetName = "Name", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string[]? Name { get; set; }

    [Alias("PID")]
    [Parameter(ParameterSetName = "Id", Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public int[]? Id { get; set; }

    [Parameter(ParameterSetName = "InputObject", Mandatory = true, ValueFromPipeline = true)]
    public Process[]? InputObject { get; set; }

    [Alias("TimeoutSec")]
    [Parameter(Position = 1)]
    [ValidateRange(0, 32767)]
    public int Timeout { get; set; } = -1;

    [Parameter]
    public SwitchParameter Any { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord() => _processes.AddRange(Find(Name, Id, InputObject));

    protected override void EndProcessing()
    {
        using CancellationTokenSource limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
        if (Timeout >= 0)
        {
            limit.CancelAfter(TimeSpan.FromSeconds(Timeout));
        }
        Task[] waits = _processes.Select(p => p.WaitForExitAsync(limit.Token)).ToArray();
        if (waits.Length > 0)
        {
            Task all = Any ? Task.WhenAny(waits) : Task.WhenAll(waits);
            ((IAsyncResult)all).AsyncWaitHandle.WaitOne();
        }
        if (_stop.IsCancellationRequested)
        {
            return;
        }
        foreach (Process process in _processes.Where((_, i) => !Any && waits[i].IsCanceled))
        {
            WriteError(new ErrorRecord(
                new TimeoutException($"This command stopped because process \"{NameOf(process)} ({process.Id})\" is not stopped in the specified time-out."),
                "ProcessNotTerminated", ErrorCategory.CloseError, process));
        }
        if (PassThru)
        {
            WriteObject(_processes, enumerateCollection: true);
        }
    }

    protected override void StopProcessing() => _stop.Cancel();

    public void Dispose() => _stop.Dispose();
}
