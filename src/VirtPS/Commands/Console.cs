using System.Management.Automation;
using System.Text;
using VirtPS.Client;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Receive-VirtConsole: what the guest wrote on its console in this run, as lines; -Wait follows, -Raw gives bytes.</summary>
[Cmdlet(VerbsCommunications.Receive, "VirtConsole", DefaultParameterSetName = NameSet)]
[OutputType(typeof(string), typeof(byte[]))]
public sealed class ReceiveVirtConsole : VirtVMCmdlet
{
    /// <summary>Go on with what comes, until the VM stops or Ctrl-C.</summary>
    [Parameter]
    public SwitchParameter Wait { get; set; }

    /// <summary>Bytes as they came, one byte[] per piece.</summary>
    [Parameter]
    public SwitchParameter Raw { get; set; }

    /// <summary>Leave out what came before now (with -Wait).</summary>
    [Parameter]
    public SwitchParameter SkipPast { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        var options = new ConsoleReadOptions { Follow = Wait, SkipPast = SkipPast };
        if (Raw)
        {
            foreach (ReadOnlyMemory<byte> piece in Stream(token => VirtHost.ReadConsoleAsync(vm.Id, options, token)))
                WriteObject(piece.ToArray(), enumerateCollection: false);
            return;
        }

        foreach (string line in Stream(token => VirtHost.ReadConsoleLinesAsync(vm.Id, options, token)))
            WriteObject(line);
    }
}

/// <summary>Send-VirtConsole: types into the guest's console.</summary>
[Cmdlet(VerbsCommunications.Send, "VirtConsole", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
public sealed class SendVirtConsole : VirtVMCmdlet
{
    /// <summary>Each string is typed and followed by Enter, unless -NoNewline.</summary>
    [Parameter(Mandatory = true, Position = 1)]
    [AllowEmptyString]
    public string[] Text { get; set; } = [];

    [Parameter]
    public SwitchParameter NoNewline { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        if (!ShouldProcess(vm.Name, "Send-VirtConsole"))
            return;
        string all = string.Concat(Text.Select(t => NoNewline ? t : t + "\r"));
        Await(token => VirtHost.SendConsoleAsync(vm.Id, Encoding.UTF8.GetBytes(all), token));
    }
}
