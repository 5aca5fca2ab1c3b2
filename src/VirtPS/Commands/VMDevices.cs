using System.Collections;
using System.Management.Automation;
using System.Text.Json.Nodes;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtVMDevice: configured devices, and the platform's own while the VM runs.</summary>
[Cmdlet(VerbsCommon.Get, "VirtVMDevice", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtVMDevice))]
public sealed class GetVirtVMDevice : VirtVMCmdlet
{
    /// <summary>Names of devices; wildcards are allowed.</summary>
    [Parameter(Position = 1)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(VMDeviceCompleter))]
    public string[] DeviceName { get; set; } = ["*"];

    private protected override void Process(VirtualMachine vm)
    {
        WildcardPattern[] patterns = [.. DeviceName.Select(n => new WildcardPattern(n, WildcardOptions.IgnoreCase))];
        IReadOnlyList<VirtVMDevice> devices = Await(token => VirtHost.GetDevicesAsync(vm.Id, token));
        WriteObject(devices.Where(d => patterns.Any(p => p.IsMatch(d.Name))), enumerateCollection: true);
    }
}

/// <summary>Add-VirtVMDevice: adds a device of a plugin's model.</summary>
[Cmdlet(VerbsCommon.Add, "VirtVMDevice", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtVMDevice))]
public sealed class AddVirtVMDevice : VirtVMCmdlet
{
    /// <summary><c>plugin/model</c>; Get-VirtDeviceModel lists them.</summary>
    [Parameter(Mandatory = true, Position = 1)]
    [ArgumentCompleter(typeof(DeviceModelCompleter))]
    public string Model { get; set; } = "";

    /// <summary>The device's name in the VM; made from the model when not given.</summary>
    [Parameter]
    public string? DeviceName { get; set; }

    /// <summary>The model's properties.</summary>
    [Parameter]
    public Hashtable Property { get; set; } = [];

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        if (!ShouldProcess(vm.Name, $"Add device {Model}"))
            return;
        JsonObject spec = DeviceSpecification.FromHashtable(Property);
        spec["model"] = Model;
        if (DeviceName is not null)
            spec["name"] = DeviceName;
        VirtVMDevice added = Await(token => VirtHost.AddDeviceAsync(vm.Id, spec, token));
        if (PassThru)
            WriteObject(added);
    }
}

/// <summary>Remove-VirtVMDevice.</summary>
[Cmdlet(VerbsCommon.Remove, "VirtVMDevice", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium, DefaultParameterSetName = "Name")]
public sealed class RemoveVirtVMDevice : VirtCmdlet
{
    /// <summary>The VM's name.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "Name")]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public string VMName { get; set; } = "";

    /// <summary>The device's name.</summary>
    [Parameter(Mandatory = true, Position = 1, ParameterSetName = "Name")]
    [ArgumentCompleter(typeof(VMDeviceCompleter))]
    public string[] Name { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = "InputObject", ValueFromPipeline = true)]
    public VirtVMDevice[] InputObject { get; set; } = [];

    protected override void ProcessRecord()
    {
        if (ParameterSetName == "InputObject")
        {
            foreach (VirtVMDevice device in InputObject)
                PerRecord(device.Name, () => Remove(device.VMId, device.VMName, device.Name));
            return;
        }

        PerRecord(VMName, () =>
        {
            Client.VmQueryResult found = Await(token => VirtHost.GetAsync(new Client.VmQuery { Names = [WildcardPattern.Escape(VMName)] }, token));
            foreach (Sdk.VirtException error in found.Errors)
                WriteError(ToErrorRecord(error, VMName));
            foreach (VirtualMachine vm in found.Machines)
            {
                foreach (string name in Name)
                    PerRecord(name, () => Remove(vm.Id, vm.Name, name));
            }
        });
    }

    private void Remove(Guid id, string vmName, string name)
    {
        if (ShouldProcess($"{vmName}/{name}", "Remove-VirtVMDevice"))
            Await(token => VirtHost.RemoveDeviceAsync(id, name, token));
    }
}
