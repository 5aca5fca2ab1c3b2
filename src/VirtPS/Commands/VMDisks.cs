using System.Collections;
using System.Management.Automation;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Add-VirtVMDisk: gives a VM a disk image as a disk.</summary>
[Cmdlet(VerbsCommon.Add, "VirtVMDisk", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtVMDisk))]
public sealed class AddVirtVMDisk : VirtVMCmdlet
{
    /// <summary>A raw disk image.</summary>
    [Parameter(Mandatory = true, Position = 1)]
    [ValidateNotNullOrEmpty]
    public string[] Path { get; set; } = [];

    /// <summary>The guest cannot write it; several VMs may share it.</summary>
    [Parameter]
    public SwitchParameter ReadOnly { get; set; }

    /// <summary>The disk's name in the VM; disk0, disk1 … when not given.</summary>
    [Parameter]
    public string? DiskName { get; set; }

    /// <summary>What the guest sees it through; the strategy's own when not given.</summary>
    [Parameter]
    [ArgumentCompleter(typeof(DiskModelCompleter))]
    public string? Model { get; set; }

    /// <summary>Further properties of the model.</summary>
    [Parameter]
    public Hashtable Property { get; set; } = [];

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        foreach (string path in Path)
        {
            PerRecord(path, () =>
            {
                string full = FullPath(path);
                if (!ShouldProcess(vm.Name, $"Add disk {full}"))
                    return;
                VirtVMDisk added = Await(token => VirtHost.AddDiskAsync(vm.Id, full, ReadOnly, DiskName, Model, DeviceSpecification.FromHashtable(Property), token));
                if (PassThru)
                    WriteObject(added);
            });
        }
    }
}

/// <summary>Get-VirtVMDisk: the disks of VMs.</summary>
[Cmdlet(VerbsCommon.Get, "VirtVMDisk", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtVMDisk))]
public sealed class GetVirtVMDisk : VirtVMCmdlet
{
    /// <summary>Names of disks; wildcards are allowed.</summary>
    [Parameter(Position = 1)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(VMDiskCompleter))]
    public string[] DiskName { get; set; } = ["*"];

    private protected override void Process(VirtualMachine vm)
    {
        WildcardPattern[] patterns = [.. DiskName.Select(n => new WildcardPattern(n, WildcardOptions.IgnoreCase))];
        IReadOnlyList<VirtVMDisk> disks = Await(token => VirtHost.GetDisksAsync(vm.Id, token));
        WriteObject(disks.Where(d => patterns.Any(p => p.IsMatch(d.Name))), enumerateCollection: true);
    }
}

/// <summary>Base of the cmdlets that work on one VM's disks, told by VM and name or as objects.</summary>
public abstract class VirtVMDiskCmdlet : VirtCmdlet
{
    private protected const string NameSet = "Name", ObjectSet = "InputObject";

    /// <summary>The VM's name.</summary>
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = NameSet)]
    [ArgumentCompleter(typeof(VMNameCompleter))]
    public string VMName { get; set; } = "";

    /// <summary>Names of disks.</summary>
    [Parameter(Mandatory = true, Position = 1, ParameterSetName = NameSet)]
    [ArgumentCompleter(typeof(VMDiskCompleter))]
    public string[] Name { get; set; } = [];

    [Parameter(Mandatory = true, ParameterSetName = ObjectSet, ValueFromPipeline = true)]
    public VirtVMDisk[] InputObject { get; set; } = [];

    protected override void ProcessRecord()
    {
        if (ParameterSetName == ObjectSet)
        {
            foreach (VirtVMDisk disk in InputObject)
                PerRecord(disk.Name, () => Process(disk.VMId, disk.VMName, disk.Name));
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
                    PerRecord(name, () => Process(vm.Id, vm.Name, name));
            }
        });
    }

    private protected abstract void Process(Guid id, string vmName, string name);
}

/// <summary>Set-VirtVMDisk: another image, or another access, for a disk of a VM that does not run.</summary>
[Cmdlet(VerbsCommon.Set, "VirtVMDisk", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtVMDisk))]
public sealed class SetVirtVMDisk : VirtVMDiskCmdlet
{
    /// <summary>The image that takes the place of the present one.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? Path { get; set; }

    [Parameter]
    public SwitchParameter ReadOnly { get; set; }

    [Parameter]
    public SwitchParameter Writable { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    private protected override void Process(Guid id, string vmName, string name)
    {
        if (ReadOnly && Writable)
            throw new Sdk.VirtException(Client.ErrorIds.ConfigurationInvalid, "A disk cannot be both read-only and writable.", "Give one of -ReadOnly and -Writable.", name);
        if (!ShouldProcess($"{vmName}/{name}", "Set-VirtVMDisk"))
            return;
        bool? readOnly = ReadOnly ? true : Writable ? false : null;
        VirtVMDisk changed = Await(token => VirtHost.SetDiskAsync(id, name, Path is null ? null : FullPath(Path), readOnly, token));
        if (PassThru)
            WriteObject(changed);
    }
}

/// <summary>Remove-VirtVMDisk: takes a disk out of a VM; its image stays.</summary>
[Cmdlet(VerbsCommon.Remove, "VirtVMDisk", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium, DefaultParameterSetName = NameSet)]
public sealed class RemoveVirtVMDisk : VirtVMDiskCmdlet
{
    private protected override void Process(Guid id, string vmName, string name)
    {
        if (ShouldProcess($"{vmName}/{name}", "Remove-VirtVMDisk"))
            Await(token => VirtHost.RemoveDiskAsync(id, name, token));
    }
}
