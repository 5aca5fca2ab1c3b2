namespace VirtPS.Shell;

/// <summary>What the command line of <c>virtps</c> asks for, with the spellings of <c>pwsh</c>.</summary>
internal sealed class CommandLine
{
    /// <summary>The script file to run, or null.</summary>
    public string? File { get; private set; }

    /// <summary>The text to run, or null. "-" means standard input.</summary>
    public string? Command { get; private set; }

    /// <summary>The arguments after the script file.</summary>
    public IReadOnlyList<string> Arguments { get; private set; } = [];

    public bool NoLogo { get; private set; }
    public bool NoProfile { get; private set; }
    public bool NonInteractive { get; private set; }
    public bool NoExit { get; private set; }
    public bool ShowHelp { get; private set; }
    public bool ShowVersion { get; private set; }
    public string? WorkingDirectory { get; private set; }

    /// <summary>What is wrong with the command line, or null.</summary>
    public string? Error { get; private set; }

    /// <summary>True when neither a file nor a command was given.</summary>
    public bool IsInteractive => File is null && Command is null;

    /// <summary>Reads the arguments. As in pwsh, the first word that is no option names the script file, and all after it belongs to the script.</summary>
    public static CommandLine Parse(IReadOnlyList<string> args)
    {
        var result = new CommandLine();
        for (int i = 0; i < args.Count; i++)
        {
            if (!IsOption(args[i]))
            {
                result.TakeFile(args, i);
                return result;
            }
            if (result.TakeOption(args, ref i))
            {
                return result;
            }
        }
        return result;
    }

    private static bool IsOption(string word) => word.Length > 1 && (word[0] == '-' || (word[0] == '/' && OperatingSystem.IsWindows()));

    /// <returns>True when the rest of the line has been taken.</returns>
    private bool TakeOption(IReadOnlyList<string> args, ref int i)
    {
        string name = args[i].TrimStart('-', '/');
        switch (name.ToLowerInvariant())
        {
            case "c" or "command":
                if (i + 1 >= args.Count)
                {
                    Error = "-Command needs the text to run, or - for standard input.";
                    return true;
                }
                Command = string.Join(' ', args.Skip(i + 1));
                return true;
            case "f" or "file":
                if (i + 1 >= args.Count)
                {
                    Error = "-File needs the path of a script.";
                    return true;
                }
                TakeFile(args, i + 1);
                return true;
            case "wd" or "workingdirectory":
                if (++i >= args.Count)
                {
                    Error = "-WorkingDirectory needs a path.";
                    return true;
                }
                WorkingDirectory = args[i];
                return false;
            case "ep" or "executionpolicy":
                i++; // Accepted and without effect outside Windows, as in pwsh.
                return false;
            case "nologo": NoLogo = true; return false;
            case "nop" or "noprofile": NoProfile = true; return false;
            case "noni" or "noninteractive": NonInteractive = true; return false;
            case "noe" or "noexit": NoExit = true; return false;
            case "h" or "help" or "?": ShowHelp = true; return true;
            case "v" or "version": ShowVersion = true; return true;
            default:
                Error = $"'{args[i]}' is not an option of virtps. 'virtps -Help' lists them.";
                return true;
        }
    }

    private void TakeFile(IReadOnlyList<string> args, int index)
    {
        File = args[index];
        Arguments = args.Skip(index + 1).ToArray();
    }

    /// <summary>The text <c>-Help</c> prints.</summary>
    public const string HelpText = """
        Usage: virtps [options] [script.ps1 [arguments]]

          -File <path> [arguments]   run a script (the default for a first word without a dash)
          -Command, -c <text>        run PowerShell text; - reads it from standard input
          -NoExit                    stay interactive afterwards
          -NoLogo                    no banner
          -NoProfile                 do not run the profile
          -NonInteractive            never ask; prompts are errors
          -WorkingDirectory <path>   start there
          -Version, -Help

        Without a script or command the shell is interactive.
        """;
}
