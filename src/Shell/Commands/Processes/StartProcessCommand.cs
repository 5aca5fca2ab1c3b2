using System.Collections;
using System.ComponentModel;
using System.Diagnostics;
using System.Management.Automation;

namespace VirtPS.Shell.Commands.Processes;

/// <summary>Start-Process.</summary>
[Cmdlet(VerbsLifecycle.Start, "Process", DefaultParameterSetName = "Default", SupportsShouldProcess = true)]
[OutputType(typeof(Process))]
public sealed class StartProcessCommand : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stop = new();

    [Alias("PSPath", "Path")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipelineByPropertyName = true)]
    public string FilePath { get; set; } = "";

    [Alias("Args")]
    [Parameter(Position = 1)]
    public string[] ArgumentList { get; set; } = [];

    [Parameter]
    public string? WorkingDirectory { get; set; }

    [Alias("NNW")]
    [Parameter]
    public SwitchParameter NoNewWindow { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    [Parameter]
    public SwitchParameter Wait { get; set; }

    [Alias("RSI")]
    [Parameter]
    public string? RedirectStandardInput { get; set; }

    [Alias("RSO")]
    [Parameter]
    public string? RedirectStandardOutput { get; set; }

    [Alias("RSE")]
    [Parameter]
    public string? RedirectStandardError { get; set; }

    [Parameter]
    public Hashtable? Environment { get; set; }

    [Parameter]
    public SwitchParameter UseNewEnvironment { get; set; }

    protected override void BeginProcessing()
    {
        string program = Program();
        // Words are joined as they are, as in pwsh: one that holds a blank must bring its own quotes.
        string arguments = string.Join(' ', ArgumentList);
        if (!ShouldProcess($"{program} {arguments}".TrimEnd(), "Start-Process"))
        {
            return;
        }
        Process? process = Start(program, arguments);
        if (process is null)
        {
            return;
        }
        Task streams = Connect(process);
        if (PassThru)
        {
            WriteObject(process);
        }
        if (Wait)
        {
            WaitFor(process, streams);
        }
    }

    private string Program()
    {
        try
        {
            if (SessionState.InvokeCommand.GetCommand(FilePath, CommandTypes.Application | CommandTypes.ExternalScript) is { } command)
            {
                return command.Definition;
            }
        }
        catch (CommandNotFoundException)
        {
            // not a command: a path, then
        }
        return SessionState.Path.GetUnresolvedProviderPathFromPSPath(FilePath);
    }

    private Process? Start(string program, string arguments)
    {
        var info = new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = WorkingDirectory is null
                ? SessionState.Path.CurrentFileSystemLocation.ProviderPath
                : SessionState.Path.GetUnresolvedProviderPathFromPSPath(WorkingDirectory),
            UseShellExecute = false,
            RedirectStandardInput = RedirectStandardInput is not null,
            RedirectStandardOutput = RedirectStandardOutput is not null,
            RedirectStandardError = RedirectStandardError is not null,
        };
        if (UseNewEnvironment)
        {
            info.Environment.Clear();
        }
        foreach (DictionaryEntry entry in Environment ?? [])
        {
            info.Environment[entry.Key.ToString()!] = entry.Value?.ToString();
        }
        try
        {
            return Process.Start(info);
        }
        catch (Exception e) when (e is Win32Exception or IOException)
        {
            ThrowTerminatingError(new ErrorRecord(
                new InvalidOperationException($"This command cannot be run due to the error: {e.Message}", e), "InvalidOperationException", ErrorCategory.InvalidOperation, null));
            return null;
        }
    }

    private Task Connect(Process process)
    {
        var copies = new List<Task>();
        if (RedirectStandardInput is not null)
        {
            copies.Add(Copy(File.OpenRead(FullPath(RedirectStandardInput)), process.StandardInput.BaseStream));
        }
        if (RedirectStandardOutput is not null)
        {
            copies.Add(Copy(process.StandardOutput.BaseStream, File.Create(FullPath(RedirectStandardOutput))));
        }
        if (RedirectStandardError is not null)
        {
            copies.Add(Copy(process.StandardError.BaseStream, File.Create(FullPath(RedirectStandardError))));
        }
        return Task.WhenAll(copies);
    }

    private static async Task Copy(Stream from, Stream to)
    {
        await using (from.ConfigureAwait(false))
        await using (to.ConfigureAwait(false))
        {
            await from.CopyToAsync(to).ConfigureAwait(false);
        }
    }

    private string FullPath(string path) => SessionState.Path.GetUnresolvedProviderPathFromPSPath(path);

    private void WaitFor(Process process, Task streams)
    {
        try
        {
            process.WaitForExitAsync(_stop.Token).GetAwaiter().GetResult();
            streams.Wait(_stop.Token);
        }
        catch (OperationCanceledException)
        {
            return; // Ctrl-C: the process goes on, the cmdlet does not
        }
    }

    protected override void StopProcessing() => _stop.Cancel();

    public void Dispose() => _stop.Dispose();
}
