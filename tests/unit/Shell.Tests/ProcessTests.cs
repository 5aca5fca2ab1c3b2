using Xunit;

namespace VirtPS.Shell.Tests;

/// <summary>The shell as a process: exit codes, streams, arguments.</summary>
public sealed class ProcessTests
{
    [Fact]
    public async Task Exit_statement_of_a_script_is_the_exit_code()
    {
        Virtps run = await Virtps.Script("'before'; exit 7; 'after'");
        Assert.Equal(7, run.ExitCode);
        Assert.Equal("before\n", run.Output);
    }

    [Fact]
    public async Task Exit_within_a_called_script_does_not_end_the_caller()
    {
        string inner = Path.GetTempFileName() + ".ps1";
        await File.WriteAllTextAsync(inner, "exit 3", TestContext.Current.CancellationToken);
        Virtps run = await Virtps.Script($"& '{inner}'; \"code $LASTEXITCODE\"");
        File.Delete(inner);
        Assert.Equal("code 3\n", run.Output);
        Assert.Equal(0, run.ExitCode);
    }

    [Fact]
    public async Task Uncaught_error_goes_to_standard_error_with_code_1()
    {
        Virtps run = await Virtps.Script("'out'; throw 'broken'");
        Assert.Equal(1, run.ExitCode);
        Assert.Equal("out\n", run.Output);
        Assert.Contains("broken", run.Error, StringComparison.Ordinal);
        Assert.DoesNotContain('\e', run.Error);
    }

    [Fact]
    public async Task Non_terminating_error_lets_a_script_go_on()
    {
        Virtps run = await Virtps.Script("Get-Item /no/such/item; 'after'");
        Assert.Equal(0, run.ExitCode);
        Assert.Equal("after\n", run.Output);
        Assert.Contains("/no/such/item", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Arguments_bind_by_name_and_position()
    {
        Virtps run = await Virtps.Script(
            "param([string] $Name, [int] $Count, [switch] $Flag) \"$Name|$Count|$Flag|$args|$($PSScriptRoot.Length -gt 0)\"",
            "-Count", "3", "n", "-Flag", "rest");
        Assert.Equal("n|3|True|rest|True\n", run.Output);
    }

    [Theory]
    [InlineData("$true", 0)]
    [InlineData("Get-Item /no/such", 1)]
    [InlineData("exit 9", 9)]
    [InlineData("throw 'x'", 1)]
    public async Task Command_text_gives_its_exit_code(string text, int expected) =>
        Assert.Equal(expected, (await Virtps.Command(text)).ExitCode);

    [Fact]
    public async Task Native_commands_run_with_exit_code_and_pipe()
    {
        Virtps run = await Virtps.Command("/bin/sh -c 'exit 5'; $LASTEXITCODE; 'b','a' | /usr/bin/sort; (/bin/echo hi) + '!'");
        Assert.Equal("5\na\nb\nhi!\n", run.Output);
    }

    [Fact]
    public async Task Standard_input_is_run_as_commands()
    {
        Virtps run = await Virtps.Run("1 + 1\n'x' * 3\n");
        Assert.Equal("2\nxxx\n", run.Output);
    }

    [Fact]
    public async Task Message_streams_are_labelled_and_without_colour_in_a_pipe()
    {
        Virtps run = await Virtps.Command("Write-Warning w; Write-Verbose v -Verbose; Write-Host h -ForegroundColor Red; Write-Progress p; Write-Information i -InformationAction Continue");
        Assert.Equal("WARNING: w\nVERBOSE: v\nh\ni\n", run.Output);
    }

    [Fact]
    public async Task Missing_script_is_one_clear_error()
    {
        Virtps run = await Virtps.Run(null, "/no/such/script.ps1");
        Assert.Equal(64, run.ExitCode);
        Assert.Contains("/no/such/script.ps1", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Questions_fail_when_not_interactive()
    {
        Virtps run = await Virtps.Run(null, "-NonInteractive", "-Command", "Read-Host name; 'not reached'; exit 3");
        Assert.Contains("-NonInteractive", run.Error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Objects_are_shown_with_the_engine_s_views()
    {
        Virtps table = await Virtps.Command("[pscustomobject]@{ Alpha = 1; Beta = 'x' }");
        Assert.Equal("\nAlpha Beta\n----- ----\n    1 x\n\n", table.Output);
        Virtps process = await Virtps.Command("Get-Process -Id $PID");
        Assert.Contains("ProcessName", process.Output, StringComparison.Ordinal);
        Virtps version = await Virtps.Command("$PSVersionTable.PSEdition; $PSVersionTable.PSVersion.Major");
        Assert.Equal("Core\n7\n", version.Output);
    }
}
