using System.Reflection;
using VirtPS.Shell.Hosting;
using VirtPS.Shell.Interactive;

namespace VirtPS.Shell;

internal static class Program
{
    public static int Main(string[] args)
    {
        CommandLine line = CommandLine.Parse(args);
        if (line.Error is not null)
        {
            Console.Error.WriteLine(line.Error);
            return 64; // EX_USAGE, as pwsh answers a bad command line
        }
        if (line.ShowHelp)
        {
            Console.Out.WriteLine(CommandLine.HelpText);
            return 0;
        }
        if (line.ShowVersion)
        {
            Console.Out.WriteLine($"virtps {ProductVersion} (PowerShell engine {System.Management.Automation.PSVersionInfo.PSVersion})");
            return 0;
        }
        if (line.WorkingDirectory is { } directory)
        {
            if (!Directory.Exists(directory))
            {
                Console.Error.WriteLine($"-WorkingDirectory '{directory}': there is no such folder.");
                return 64;
            }
            Directory.SetCurrentDirectory(directory);
        }
        return Run(line);
    }

    /// <summary>The version of this build, without the commit suffix.</summary>
    internal static string ProductVersion { get; } =
        (typeof(Program).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "0").Split('+')[0];

    private static int Run(CommandLine line)
    {
        using var session = new ShellSession(line);
        if (!line.IsInteractive)
        {
            int code = session.RunNonInteractive();
            if (!line.NoExit || session.ExitRequested)
            {
                return code;
            }
        }
        else if (Console.IsInputRedirected)
        {
            // Commands come from a pipe: run them as one text, the way `-Command -` does.
            return session.RunText(Console.In.ReadToEnd());
        }
        return new ReadEvalPrintLoop(session, line).Run();
    }
}
