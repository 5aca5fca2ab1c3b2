using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Infrastructure;

/// <summary>Base of the cmdlets that work on existing VMs, told by name (wildcards), id or object.</summary>
public abstract class VirtVMCmdlet : VirtCmdlet
{
    private protected const string NameSet = "Name", IdSet = "Id", ObjectSet = "InputObject";

    /// <summary>Names; wildcards are allowed and case does not count.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = NameSet, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("VMName")]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    [SupportsWildcards]
    [ValidateNotNullOrEmpty]
    public string[] Name { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = IdSet, ValueFromPipelineByPropertyName = true)]
    [Alias("VMId")]
    public Guid[] Id { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = ObjectSet, ValueFromPipeline = true)]
    [ValidateNotNullOrEmpty]
    public VirtualMachine[] InputObject { get; set; } = [];

    protected override void ProcessRecord()
    {
        foreach (VirtualMachine vm in Targets())
            PerRecord(vm.Name, () => Process(vm));
    }

    /// <summary>The work for one VM.</summary>
    private protected abstract void Process(VirtualMachine vm);

    /// <summary>The VMs meant by this record; what is missing is written as an error.</summary>
    private protected IReadOnlyList<VirtualMachine> Targets()
    {
        VmQuery query = ParameterSetName switch
        {
            IdSet => new VmQuery { Ids = Id },
            ObjectSet => new VmQuery { Ids = [.. InputObject.Select(vm => vm.Id)] },
            _ => new VmQuery { Names = Name },
        };
        IReadOnlyList<VirtualMachine> found = [];
        PerRecord(null, () =>
        {
            VmQueryResult result = Await(token => VirtHost.GetAsync(query, token));
            foreach (VirtException error in result.Errors)
                WriteError(ToErrorRecord(error, null));
            found = result.Machines;
        });
        return found;
    }
}

/// <summary>A VM cmdlet that changes something and returns the VM only with -PassThru.</summary>
public abstract class VirtVMActionCmdlet : VirtVMCmdlet
{
    /// <summary>Emit the VM as it is afterwards.</summary>
    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected void Emit(VirtualMachine vm)
    {
        if (PassThru)
            WriteObject(vm);
    }
}
