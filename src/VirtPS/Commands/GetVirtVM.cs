using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtVM: the VMs of this host's store, as they are now.</summary>
[Cmdlet(VerbsCommon.Get, "VirtVM", DefaultParameterSetName = "Name")]
[OutputType(typeof(VirtualMachine))]
public sealed class GetVirtVM : VirtCmdlet
{
    [Parameter(Position = 0, ParameterSetName = "Name", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("VMName")]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [SupportsWildcards]
    public string[] Name { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = "Id", ValueFromPipelineByPropertyName = true)]
    [Alias("VMId")]
    public Guid[] Id { get; set; } = [];

    /// <summary>Objects from an earlier look: emits the same VMs as they are now.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "InputObject", ValueFromPipeline = true)]
    public VirtualMachine[] InputObject { get; set; } = [];

    protected override void ProcessRecord() => Terminating(() =>
    {
        VmQuery query = ParameterSetName switch
        {
            "Id" => new VmQuery { Ids = Id },
            "InputObject" => new VmQuery { Ids = [.. InputObject.Select(vm => vm.Id)] },
            _ => new VmQuery { Names = Name },
        };
        VmQueryResult result = Await(token => VirtHost.GetAsync(query, token));
        WriteObject(result.Machines, enumerateCollection: true);
        foreach (VirtException error in result.Errors)
            WriteError(ToErrorRecord(error, null));
    });
}
