using System.Collections;
using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;
using VirtPS.Transformations;

namespace VirtPS.Commands;

/// <summary>Set-VirtVM: changes what a VM shall be. Notes at any time, the rest while it is off.</summary>
[Cmdlet(VerbsCommon.Set, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class SetVirtVM : VirtVMActionCmdlet
{
    [Parameter]
    public string? Notes { get; set; }

    [Parameter]
    [SizeTransformation]
    public ulong? Memory { get; set; }

    [Parameter]
    public int? ProcessorCount { get; set; }

    [Parameter]
    [ArgumentCompleter(typeof(StrategyCompleter))]
    public string? Strategy { get; set; }

    [Parameter]
    public Hashtable? StrategyOption { get; set; }

    /// <summary>Changes that one option of the strategy; the others stay.</summary>
    [Parameter]
    public Enlightenment? Enlightenment { get; set; }

    /// <summary>An empty string goes back to the embedded guest.</summary>
    [Parameter]
    public string? Kernel { get; set; }

    /// <summary>An empty string takes the initrd away.</summary>
    [Parameter]
    public string? Initrd { get; set; }

    [Parameter]
    public string? CommandLine { get; set; }

    [Parameter]
    public BootKind? BootKind { get; set; }

    [Parameter]
    public GuestResetAction? OnReset { get; set; }

    [Parameter]
    public GuestResetAction? OnTripleFault { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        if (!ShouldProcess(vm.Name, "Set-VirtVM"))
            return;
        var changes = new VmChanges
        {
            Notes = Notes,
            Memory = Memory,
            ProcessorCount = ProcessorCount,
            Strategy = Strategy,
            StrategyOptions = StrategyOptionTable.Merge(StrategyOption, vm.StrategyOptions, Enlightenment),
            OnReset = OnReset,
            OnTripleFault = OnTripleFault,
            Boot = BootChange(vm),
        };
        Emit(Await(token => VirtHost.SetAsync(vm.Id, changes, token)));
    }

    private BootConfiguration? BootChange(VirtualMachine vm)
    {
        if (Kernel is null && Initrd is null && CommandLine is null && BootKind is null)
            return null;
        string? kernel = Kernel is null ? vm.Kernel : Kernel.Length == 0 ? null : FullPath(Kernel);
        string? initrd = Initrd is null ? vm.Initrd : Initrd.Length == 0 ? null : FullPath(Initrd);
        BootKind kept = Kernel is null ? vm.BootKind : Sdk.Machine.BootKind.Auto;
        return new BootConfiguration
        {
            Kind = kernel is null ? Sdk.Machine.BootKind.Ringlab : BootKind ?? kept,
            Kernel = kernel,
            Initrd = kernel is null ? null : initrd,
            CommandLine = CommandLine ?? vm.CommandLine,
        };
    }
}

/// <summary>Rename-VirtVM.</summary>
[Cmdlet(VerbsCommon.Rename, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class RenameVirtVM : VirtVMActionCmdlet
{
    [Parameter(Mandatory = true, Position = 1)]
    public string NewName { get; set; } = "";

    private protected override void Process(VirtualMachine vm)
    {
        if (ShouldProcess(vm.Name, $"Rename to '{NewName}'"))
            Emit(Await(token => VirtHost.RenameAsync(vm.Id, NewName, token)));
    }
}
