using System.Collections.ObjectModel;
using System.Management.Automation;
using System.Management.Automation.Runspaces;

namespace VirtPS.Shell.Hosting;

/// <summary>One runspace with the shell's commands, and the ways to run something in it. For one thread; only Ctrl-C comes from another.</summary>
internal sealed class ShellSession : IDisposable
{
    private const string SucceededVariable = "__virtpsSucceeded";
    private readonly CommandLine _line;
    private readonly Lock _lock = new();
    private PowerShell? _current;
    private bool _interrupted;

    public ShellSession(CommandLine line)
    {
        _line = line;
        Host = new ShellHost(line.NonInteractive);
        Runspace = RunspaceFactory.CreateRunspace(Host, SessionCommands.CreateState());
        // Scripts run on the caller's thread: it has the process's full stack, and no thread switch lies between statements.
        Runspace.ThreadOptions = PSThreadOptions.UseCurrentThread;
        Runspace.Open();
        Runspace.DefaultRunspace = Runspace;
        ModulePaths.Extend(AppContext.BaseDirectory);
        Runspace.SessionStateProxy.SetVariable("PROFILE", ProfilePath);
        Console.CancelKeyPress += OnCancelKey;
    }

    public ShellHost Host { get; }
    public Runspace Runspace { get; }

    /// <summary>True once a top-level <c>exit</c> has run.</summary>
    public bool ExitRequested => Host.ExitCode is not null;

    /// <summary>True when the last run was stopped by Ctrl-C.</summary>
    public bool WasInterrupted => _interrupted;

    /// <summary>The script run at start unless -NoProfile: ~/.config/virtps/profile.ps1 or what the platform has for it.</summary>
    public static string ProfilePath => Path.Combine(ConfigurationFolder, "profile.ps1");

    internal static string ConfigurationFolder =>
        Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.ApplicationData, Environment.SpecialFolderOption.DoNotVerify), "virtps");

    public int RunNonInteractive()
    {
        RunProfile();
        if (ExitRequested)
        {
            return Host.ExitCode!.Value;
        }
        if (_line.Command is { } text)
        {
            return RunText(text == "-" ? Console.In.ReadToEnd() : text);
        }
        return RunFile(_line.File!, _line.Arguments);
    }

    /// <summary>Runs the profile when there is one and it is wanted.</summary>
    public void RunProfile()
    {
        if (!_line.NoProfile && File.Exists(ProfilePath))
        {
            Execute(ps => ps.Commands.AddCommand(new Command(ProfilePath, isScript: false, useLocalScope: false)));
        }
    }

    /// <summary>Runs a text as pwsh's -Command does: exit code 1 when its last statement failed.</summary>
    public int RunText(string text)
    {
        // $? is taken inside the text: when the pipeline has ended, the formatting of its output has set it anew.
        bool completed = Execute(ps => ps.AddScript($"{text}\n$global:{SucceededVariable} = $?", useLocalScope: false));
        bool succeeded = Runspace.SessionStateProxy.GetVariable(SucceededVariable) is true;
        Runspace.SessionStateProxy.PSVariable.Remove(SucceededVariable);
        if (Host.ExitCode is { } code)
        {
            return code;
        }
        if (_interrupted)
        {
            return 130;
        }
        return completed && succeeded ? 0 : 1;
    }

    /// <summary>Runs a script file as pwsh's -File does: its <c>exit</c> code, 1 after an uncaught error, 130 after Ctrl-C.</summary>
    public int RunFile(string path, IReadOnlyList<string> arguments)
    {
        string full = Path.GetFullPath(path);
        if (!File.Exists(full) && File.Exists(full + ".ps1"))
        {
            full += ".ps1";
        }
        if (!File.Exists(full))
        {
            Host.UI.WriteErrorLine($"The argument '{path}' is not recognized as the name of a script file. Check the spelling, or 'virtps -Help' for the options.");
            return 64;
        }
        EngineInternals.LetScriptExitReachHost(Runspace);
        bool completed = Execute(ps =>
        {
            var command = new Command(full, isScript: false, useLocalScope: false);
            foreach (CommandParameter parameter in ScriptArguments(arguments))
            {
                command.Parameters.Add(parameter);
            }
            ps.Commands.AddCommand(command);
        });
        if (Host.ExitCode is { } code)
        {
            return code;
        }
        return _interrupted ? 130 : completed ? 0 : 1;
    }

    /// <summary>Words that begin with a dash are parameter names, with pwsh's <c>-name:value</c> form; the rest are values.</summary>
    internal static IEnumerable<CommandParameter> ScriptArguments(IReadOnlyList<string> words)
    {
        foreach (string word in words)
        {
            if (word.Length < 2 || word[0] != '-' || !(char.IsLetter(word[1]) || word[1] is '_' or '?'))
            {
                yield return new CommandParameter(null, word);
                continue;
            }
            int colon = word.IndexOf(':', StringComparison.Ordinal);
            if (colon < 0 || colon == word.Length - 1)
            {
                yield return new CommandParameter(word, null);
                continue;
            }
            string value = word[(colon + 1)..];
            object converted = value.ToUpperInvariant() switch { "$TRUE" => true, "$FALSE" => false, _ => value };
            yield return new CommandParameter(word[..(colon + 1)], converted);
        }
    }

    /// <summary>Runs what <paramref name="build"/> adds, everything shown through Out-Default.</summary>
    /// <returns>False when an error ended it.</returns>
    public bool Execute(Action<PowerShell> build, bool addToHistory = false)
    {
        using var ps = PowerShell.Create(Runspace);
        build(ps);
        // Errors travel with the output, so that both appear in the order in which they happened.
        ps.Commands.Commands[^1].MergeMyResults(PipelineResultTypes.Error, PipelineResultTypes.Output);
        ps.AddCommand("Out-Default");
        try
        {
            Invoke(ps, addToHistory);
            return true;
        }
        catch (PipelineStoppedException)
        {
            return false;
        }
        catch (RuntimeException error)
        {
            ReportError(error.ErrorRecord);
            return false;
        }
        finally
        {
            Host.Terminal.ClearProgress();
        }
    }

    private Collection<PSObject> Invoke(PowerShell ps, bool addToHistory)
    {
        lock (_lock)
        {
            _interrupted = false;
            _current = ps;
        }
        try
        {
            return ps.Invoke(null, new PSInvocationSettings { AddToHistory = addToHistory });
        }
        finally
        {
            lock (_lock)
            {
                _current = null;
            }
        }
    }

    /// <summary>Runs a script and gives its objects; errors are thrown. For the shell's own questions (prompt, completion).</summary>
    public Collection<PSObject> Query(string script)
    {
        using var ps = PowerShell.Create(Runspace);
        ps.AddScript(script, useLocalScope: false);
        return Invoke(ps, addToHistory: false);
    }

    private void ReportError(ErrorRecord error)
    {
        using var ps = PowerShell.Create(Runspace);
        PSObject wrapped = PSObject.AsPSObject(error);
        EngineInternals.MarkAsError(wrapped);
        ps.AddCommand("Out-Default");
        try
        {
            ps.Invoke(new[] { wrapped });
        }
        catch (RuntimeException)
        {
            // The error's own formatting failed (a broken user view): the bare message is still owed to the user.
            Host.UI.WriteErrorLine(error.ToString());
        }
    }

    private void OnCancelKey(object? sender, ConsoleCancelEventArgs e)
    {
        lock (_lock)
        {
            bool second = _interrupted;
            _interrupted = true;
            if (_current is null)
            {
                e.Cancel = _line.IsInteractive || _line.NoExit;
                return;
            }
            if (second && !_line.IsInteractive)
            {
                return; // Asked twice and still running: let the process end.
            }
            e.Cancel = true;
            _current.BeginStop(null, null);
        }
    }

    public void Dispose()
    {
        Console.CancelKeyPress -= OnCancelKey;
        Runspace.Dispose();
    }
}
