using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Start-VirtVM: powers VMs on. A VM outlives the shell that started it.</summary>
[Cmdlet(VerbsLifecycle.Start, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class StartVirtVM : VirtVMActionCmdlet
{
    private protected override void Process(VirtualMachine vm)
    {
        if (ShouldProcess(vm.Name, "Start-VirtVM"))
            Emit(Await(token => VirtHost.StartAsync(vm.Id, token)));
    }
}

/// <summary>Stop-VirtVM: asks the guest through the power button, or with -TurnOff pulls the plug.</summary>
[Cmdlet(VerbsLifecycle.Stop, "VirtVM", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class StopVirtVM : VirtVMActionCmdlet
{
    /// <summary>Do not ask the guest: what it has not written is lost.</summary>
    [Parameter]
    public SwitchParameter TurnOff { get; set; }

    /// <summary>Seconds to wait for the guest to switch itself off.</summary>
    [Parameter]
    [ValidateRange(1, 86400)]
    public int Timeout { get; set; } = 60;

    /// <summary>Do not ask the user.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        if (!ShouldProcess(vm.Name, TurnOff ? "Turn off" : "Shut down"))
            return;
        if (TurnOff && !Force && !ShouldContinue($"Turn off '{vm.Name}' without asking its guest? Unsaved data in it is lost.", "Stop-VirtVM"))
            return;
        StopKind kind = TurnOff ? StopKind.TurnOff : StopKind.PowerButton;
        Emit(Await(token => VirtHost.StopAsync(vm.Id, kind, TimeSpan.FromSeconds(Timeout), token)));
    }
}

/// <summary>Restart-VirtVM: the power button and a new start, or with -Reset the reset button.</summary>
[Cmdlet(VerbsLifecycle.Restart, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class RestartVirtVM : VirtVMActionCmdlet
{
    /// <summary>Reset the machine at once: the guest is not asked.</summary>
    [Parameter]
    public SwitchParameter Reset { get; set; }

    /// <summary>Seconds to wait for the guest to switch itself off.</summary>
    [Parameter]
    [ValidateRange(1, 86400)]
    public int Timeout { get; set; } = 60;

    /// <summary>Do not ask the user.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        if (!ShouldProcess(vm.Name, Reset ? "Reset" : "Restart"))
            return;
        if (Reset && !Force && !ShouldContinue($"Reset '{vm.Name}' without asking its guest? Unsaved data in it is lost.", "Restart-VirtVM"))
            return;
        RestartKind kind = Reset ? RestartKind.Reset : RestartKind.PowerButton;
        Emit(Await(token => VirtHost.RestartAsync(vm.Id, kind, TimeSpan.FromSeconds(Timeout), token)));
    }
}

/// <summary>Suspend-VirtVM: guest time stands still; memory stays.</summary>
[Cmdlet(VerbsLifecycle.Suspend, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class SuspendVirtVM : VirtVMActionCmdlet
{
    private protected override void Process(VirtualMachine vm)
    {
        if (ShouldProcess(vm.Name, "Suspend-VirtVM"))
            Emit(Await(token => VirtHost.SuspendAsync(vm.Id, token)));
    }
}

/// <summary>Resume-VirtVM: goes on with a suspended VM.</summary>
[Cmdlet(VerbsLifecycle.Resume, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtualMachine))]
public sealed class ResumeVirtVM : VirtVMActionCmdlet
{
    private protected override void Process(VirtualMachine vm)
    {
        if (ShouldProcess(vm.Name, "Resume-VirtVM"))
            Emit(Await(token => VirtHost.ResumeAsync(vm.Id, token)));
    }
}

/// <summary>Remove-VirtVM: deletes a VM that does not run, with its folder.</summary>
[Cmdlet(VerbsCommon.Remove, "VirtVM", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.High, DefaultParameterSetName = NameSet)]
public sealed class RemoveVirtVM : VirtVMCmdlet
{
    /// <summary>Do not ask the user.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    protected override void BeginProcessing()
    {
        // -Force skips the question only; an explicit -Confirm is still asked.
        if (Force && !MyInvocation.BoundParameters.ContainsKey("Confirm"))
            SessionState.PSVariable.Set(new PSVariable("ConfirmPreference", ConfirmImpact.None, ScopedItemOptions.Private));
    }

    private protected override void Process(VirtualMachine vm)
    {
        if (ShouldProcess(vm.Name, "Remove-VirtVM"))
            Await(token => VirtHost.RemoveAsync(vm.Id, token));
    }
}
