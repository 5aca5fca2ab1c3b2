using System.Diagnostics;
using System.Text;
using System.Text.Json;
using VirtPS.Client.Protocol;
using VirtPS.Sdk;

namespace VirtPS.Client.Processes;

/// <summary>
/// Starts workers. A worker gets three pipes as its standard descriptors; it reports over the second, then puts all three elsewhere, so that nothing of its
/// starter stays open in it.
/// </summary>
internal static class WorkerLauncher
{
    /// <summary>A worker that has not reported by then is given up and ended. Loading a large initrd from a slow disk must fit in.</summary>
    private static readonly TimeSpan ReadyTimeout = TimeSpan.FromSeconds(60);

    /// <summary>Starts a worker with these arguments and waits for its report. Errors: WorkerStartFailed, and what the worker reports.</summary>
    public static async Task<ReadyReport> StartAsync(IReadOnlyList<string> command, IEnumerable<string> arguments, CancellationToken cancellation)
    {
        string line = await RunAsync(command, arguments, wholeOutput: false, ReadyTimeout, cancellation, ended: text => Parse(text).Error is not null).ConfigureAwait(false);
        ReadyReport report = Parse(line);
        return report.Error is { } error ? throw error.ToException() : report;
    }

    /// <summary>
    /// Runs a worker and returns its output: all of it (the worker ends), or its first line (it lives on, unless <paramref name="ended"/> says of the line that it
    /// does not: then its end is waited for, so that nothing of it is left when the caller hears of the failure). When it fails or time is up, it is ended.
    /// </summary>
    public static async Task<string> RunAsync(IReadOnlyList<string> command, IEnumerable<string> arguments, bool wholeOutput, TimeSpan patience, CancellationToken cancellation, Func<string, bool>? ended = null)
    {
        using Process process = Spawn(command, arguments);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(patience);
        bool done = false;
        try
        {
            process.StandardInput.Close();
            Task<string> complaints = process.StandardError.ReadToEndAsync(limit.Token);
            string? output = wholeOutput
                ? await process.StandardOutput.ReadToEndAsync(limit.Token).ConfigureAwait(false)
                : await process.StandardOutput.ReadLineAsync(limit.Token).ConfigureAwait(false);
            if (string.IsNullOrWhiteSpace(output))
                throw Failed(process, await complaints.ConfigureAwait(false));
            if (ended?.Invoke(output) == true)
                await process.WaitForExitAsync(limit.Token).ConfigureAwait(false);
            done = true;
            return output;
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new VirtException(ErrorIds.WorkerStartFailed, $"The worker did not report within {patience.TotalSeconds:0} s and was ended.", "Look into the VM's worker.log.", null, e);
        }
        finally
        {
            if (!done)
                End(process);
        }
    }

    private static Process Spawn(IReadOnlyList<string> command, IEnumerable<string> arguments)
    {
        var start = new ProcessStartInfo(command[0])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
            CreateNoWindow = true,
            // The worker must not keep the user's folder from being unmounted or removed.
            WorkingDirectory = Path.GetPathRoot(Environment.SystemDirectory) is { Length: > 0 } root ? root : "/",
        };
        foreach (string argument in command.Skip(1).Concat(arguments))
            start.ArgumentList.Add(argument);
        // A shell's own .NET settings are not meant for the worker.
        foreach (string name in new[] { "DOTNET_TieredPGO", "DOTNET_TieredCompilation", "DOTNET_ReadyToRun", "DOTNET_gcServer", "DOTNET_STARTUP_HOOKS" })
            start.Environment.Remove(name);
        // No debugger's socket: it would outlive a killed worker in /tmp. Who wants to look into a worker sets this to 1.
        start.Environment.TryAdd("DOTNET_EnableDiagnostics", "0");
        try
        {
            return Process.Start(start)!;
        }
        catch (Exception e) when (e is System.ComponentModel.Win32Exception or IOException)
        {
            throw new VirtException(ErrorIds.WorkerStartFailed, $"'{command[0]}' cannot be started: {e.Message}", "Check that the file is there and executable.", command[0], e);
        }
    }

    private static ReadyReport Parse(string line)
    {
        try
        {
            return HandshakeJson.Parse(Encoding.UTF8.GetBytes(line), HandshakeJson.ReadReport);
        }
        catch (JsonException e)
        {
            throw new VirtException(ErrorIds.WorkerStartFailed, $"The worker did not report but wrote: {line}", null, null, e);
        }
    }

    private static VirtException Failed(Process process, string complaints)
    {
        process.WaitForExit(1000);
        string code = process.HasExited ? $"with code {process.ExitCode}" : "without ending";
        string text = complaints.Trim();
        return new VirtException(ErrorIds.WorkerStartFailed, $"The worker failed {code} before it could report{(text.Length > 0 ? ": " + text : ".")}", "Look into the VM's worker.log.");
    }

    private static void End(Process process)
    {
        try
        {
            process.Kill();
        }
        catch (Exception e) when (e is InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            // It has ended by itself.
        }
    }
}
