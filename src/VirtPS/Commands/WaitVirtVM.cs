using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Infrastructure;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Wait-VirtVM: waits for a state, for ring 3, or for text on the console; looks from this run's power-on.</summary>
[Cmdlet(VerbsLifecycle.Wait, "VirtVM", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class WaitVirtVM : VirtVMActionCmdlet
{
    [Parameter(Mandatory = true)]
    public WaitTarget For { get; set; }

    /// <summary>A .NET regular expression over the console's text.</summary>
    [Parameter]
    public string? Pattern { get; set; }

    /// <summary>Seconds; without it the wait has no end but the VM's own.</summary>
    [Parameter]
    [ValidateRange(0.001, 31536000.0)]
    public double? Timeout { get; set; }

    protected override void BeginProcessing()
    {
        if (For == WaitTarget.Console != Pattern is not null)
        {
            ThrowTerminatingError(ToErrorRecord(
                new VirtException(ErrorIds.ConfigurationInvalid, "-For Console and -Pattern belong together.", "Give both, or neither."), null));
        }
    }

    private protected override void Process(VirtualMachine vm)
    {
        var condition = new WaitCondition(For) { Pattern = Pattern };
        TimeSpan? limit = Timeout is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        VirtWaitResult result = Await(token => VirtHost.WaitAsync(vm.Id, condition, limit, token));
        WriteVerbose($"'{vm.Name}' after {result.Elapsed.TotalSeconds:F2} s{(result.MatchedText is null ? "" : $": {result.MatchedText}")}.");
        Emit(result.VM);
    }
}
