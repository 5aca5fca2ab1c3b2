using System.Globalization;
using System.Management.Automation;
using System.Management.Automation.Host;

namespace VirtPS.Shell.Hosting;

/// <summary>The PowerShell host: ties the engine to the terminal.</summary>
internal sealed class ShellHost : PSHost
{
    private readonly ShellHostUI _ui;

    public ShellHost(bool nonInteractive)
    {
        _ui = new ShellHostUI(nonInteractive);
        PrivateData = PSObject.AsPSObject(new HostColors());
    }

    public override string Name => "virtps";
    public override Version Version { get; } = new(Program.ProductVersion.Split('-')[0]);
    public override Guid InstanceId { get; } = Guid.NewGuid();
    public override CultureInfo CurrentCulture => CultureInfo.CurrentCulture;
    public override CultureInfo CurrentUICulture => CultureInfo.CurrentUICulture;
    public override PSHostUserInterface UI => _ui;
    public override PSObject PrivateData { get; }

    /// <summary>The user interface with its own members.</summary>
    public ShellHostUI Terminal => _ui;

    /// <summary>The code of an <c>exit</c> statement that ended a top-level pipeline; null while there was none.</summary>
    public int? ExitCode { get; private set; }

    public override void SetShouldExit(int exitCode) => ExitCode = exitCode;

    public override void EnterNestedPrompt() =>
        throw new PSNotSupportedException("virtps has no nested prompts; use -ErrorAction Stop or Continue instead of Inquire.");

    public override void ExitNestedPrompt()
    {
    }

    /// <summary>A native command takes the terminal: progress must be off the screen.</summary>
    public override void NotifyBeginApplication() => _ui.HideProgress();

    public override void NotifyEndApplication()
    {
    }

    /// <summary>What scripts find in <c>$Host.PrivateData</c>, with pwsh's names.</summary>
    internal sealed class HostColors
    {
        public ConsoleColor FormatAccentColor { get; set; } = ConsoleColor.Green;
        public ConsoleColor ErrorAccentColor { get; set; } = ConsoleColor.Cyan;
        public ConsoleColor ErrorForegroundColor { get; set; } = ConsoleColor.Red;
        public ConsoleColor WarningForegroundColor { get; set; } = ConsoleColor.Yellow;
        public ConsoleColor DebugForegroundColor { get; set; } = ConsoleColor.Yellow;
        public ConsoleColor VerboseForegroundColor { get; set; } = ConsoleColor.Yellow;
        public ConsoleColor ProgressForegroundColor { get; set; } = ConsoleColor.Yellow;
    }
}
