using System.Diagnostics;
using System.Reflection;

namespace VirtPS.Shell.Tests;

/// <summary>Runs the built shell as a process of its own.</summary>
internal sealed record Virtps(int ExitCode, string Output, string Error, TimeSpan Time)
{
    private static string Executable { get; } = typeof(Virtps).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(m => m.Key == "Virtps").Value!;

    /// <summary>Runs it without a profile, bounded in time.</summary>
    public static async Task<Virtps> Run(string? input, params string[] arguments)
    {
        var start = new ProcessStartInfo("dotnet")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        start.ArgumentList.Add(Executable);
        start.ArgumentList.Add("-NoProfile");
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        var watch = Stopwatch.StartNew();
        using Process process = Process.Start(start)!;
        if (input is not null)
        {
            await process.StandardInput.WriteAsync(input);
        }
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync();
        Task<string> error = process.StandardError.ReadToEndAsync();
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30));
        try
        {
            await process.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            process.Kill(entireProcessTree: true);
            throw new TimeoutException("virtps did not end: " + string.Join(' ', arguments));
        }
        return new Virtps(process.ExitCode, (await output).ReplaceLineEndings("\n"), (await error).ReplaceLineEndings("\n"), watch.Elapsed);
    }

    /// <summary>Runs a text with -Command.</summary>
    public static Task<Virtps> Command(string text) => Run(null, "-Command", text);

    /// <summary>Runs a script file made for this call.</summary>
    public static async Task<Virtps> Script(string text, params string[] arguments)
    {
        string path = Path.Combine(Path.GetTempPath(), $"virtps-test-{Guid.NewGuid():n}.ps1");
        await File.WriteAllTextAsync(path, text);
        try
        {
            return await Run(null, [path, .. arguments]);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
