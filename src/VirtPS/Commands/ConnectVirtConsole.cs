using System.Management.Automation;
using System.Text;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Connect-VirtConsole: the guest's console on this terminal, keys included. Ctrl-] ends it; the VM goes on.</summary>
[Cmdlet(VerbsCommunications.Connect, "VirtConsole")]
public sealed class ConnectVirtConsole : VirtCmdlet
{
    private const char EscapeCharacter = '\x1D';

    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [Alias("VMName")]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public string Name { get; set; } = "";

    /// <summary>Do not show what came before.</summary>
    [Parameter]
    public SwitchParameter SkipPast { get; set; }

    protected override void ProcessRecord() => Terminating(() =>
    {
        if (Console.IsInputRedirected || Console.IsOutputRedirected)
            throw new VirtException("NotInteractive", "Connect-VirtConsole needs a terminal for input and output.", "In scripts use Receive-VirtConsole and Send-VirtConsole.", Name);
        VmQueryResult found = Await(token => VirtHost.GetAsync(new VmQuery { Names = [WildcardPattern.Escape(Name)] }, token));
        if (found.Errors.Count > 0)
            throw found.Errors[0];
        VirtualMachine vm = found.Machines[0];
        if (vm.WorkerProcessId is null)
            throw new VirtException(ErrorIds.InvalidVMState, $"'{vm.Name}' is {vm.State}: it has no console to connect to.", "Start it with Start-VirtVM.", vm.Name);
        WriteInformation(new InformationRecord($"Connected to '{vm.Name}'. Ctrl-] disconnects.", "Connect-VirtConsole"));
        Await(token => ConverseAsync(vm, token));
    });

    private async Task ConverseAsync(VirtualMachine vm, CancellationToken token)
    {
        using var over = CancellationTokenSource.CreateLinkedTokenSource(token);
        bool treatControlC = Console.TreatControlCAsInput;
        Console.TreatControlCAsInput = true;
        try
        {
            Task output = CopyOutputAsync(vm, over.Token);
            Task input = CopyKeysAsync(vm, over.Token);
            await Task.WhenAny(output, input).ConfigureAwait(false);
            await over.CancelAsync().ConfigureAwait(false);
            foreach (Task task in new[] { output, input })
            {
                try
                {
                    await task.ConfigureAwait(false);
                }
                catch (OperationCanceledException) when (!token.IsCancellationRequested)
                {
                    // The other direction ended first: that is how a connection ends.
                }
            }
        }
        finally
        {
            Console.TreatControlCAsInput = treatControlC;
        }
    }

    private async Task CopyOutputAsync(VirtualMachine vm, CancellationToken token)
    {
        await using Stream terminal = Console.OpenStandardOutput();
        await foreach (ReadOnlyMemory<byte> piece in VirtHost.ReadConsoleAsync(vm.Id, new ConsoleReadOptions { Follow = true, SkipPast = SkipPast }, token).ConfigureAwait(false))
        {
            await terminal.WriteAsync(piece, token).ConfigureAwait(false);
            await terminal.FlushAsync(token).ConfigureAwait(false);
        }
    }

    private async Task CopyKeysAsync(VirtualMachine vm, CancellationToken token)
    {
        while (true)
        {
            while (!Console.KeyAvailable)
                await Task.Delay(15, token).ConfigureAwait(false);
            ConsoleKeyInfo key = Console.ReadKey(intercept: true);
            if (key.KeyChar == EscapeCharacter)
                return;
            await VirtHost.SendConsoleAsync(vm.Id, Encoding.UTF8.GetBytes(TerminalKeys.Encode(key)), token).ConfigureAwait(false);
        }
    }
}

/// <summary>Keys as a VT100 terminal sends them (ECMA-48, xterm control sequences).</summary>
internal static class TerminalKeys
{
    internal static string Encode(ConsoleKeyInfo key) => key.Key switch
    {
        ConsoleKey.UpArrow => "\e[A",
        ConsoleKey.DownArrow => "\e[B",
        ConsoleKey.RightArrow => "\e[C",
        ConsoleKey.LeftArrow => "\e[D",
        ConsoleKey.Home => "\e[H",
        ConsoleKey.End => "\e[F",
        ConsoleKey.Insert => "\e[2~",
        ConsoleKey.Delete => "\e[3~",
        ConsoleKey.PageUp => "\e[5~",
        ConsoleKey.PageDown => "\e[6~",
        ConsoleKey.Backspace => "\x7F",
        ConsoleKey.Enter => "\r",
        _ => key.KeyChar == '\0' ? "" : key.KeyChar.ToString(),
    };
}
