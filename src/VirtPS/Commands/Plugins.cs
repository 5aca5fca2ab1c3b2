using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtPlugin: plugins by their manifests; no plugin code runs.</summary>
[Cmdlet(VerbsCommon.Get, "VirtPlugin")]
[OutputType(typeof(VirtPluginInfo))]
public sealed class GetVirtPlugin : VirtCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(PluginCompleter))]
    public string[] Id { get; set; } = ["*"];

    protected override void ProcessRecord() => Terminating(() =>
        Emit(Await(token => VirtHost.GetPluginsAsync(token)), Id, p => p.Id, "PluginNotFound", "plugin"));
}

/// <summary>Register-VirtPlugin: allows a plugin in its present form: the hash of every file in its folder is recorded and checked before each load.</summary>
[Cmdlet(VerbsLifecycle.Register, "VirtPlugin", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(VirtPluginInfo))]
public sealed class RegisterVirtPlugin : VirtCmdlet
{
    /// <summary>The plugin's folder, the one with plugin.json.</summary>
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [Alias("FullName")]
    public string[] Path { get; set; } = [];

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in Path)
        {
            string full = FullPath(path);
            PerRecord(full, () =>
            {
                if (!ShouldProcess(full, "Register-VirtPlugin"))
                    return;
                VirtPluginInfo plugin = Await(token => VirtHost.RegisterPluginAsync(full, token));
                if (PassThru)
                    WriteObject(plugin);
            });
        }
    }
}

/// <summary>Unregister-VirtPlugin: forgets a registered plugin; its files stay.</summary>
[Cmdlet(VerbsLifecycle.Unregister, "VirtPlugin", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
public sealed class UnregisterVirtPlugin : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ArgumentCompleter(typeof(PluginCompleter))]
    public string[] Id { get; set; } = [];

    protected override void ProcessRecord()
    {
        foreach (string id in Id)
        {
            PerRecord(id, () =>
            {
                if (ShouldProcess(id, "Unregister-VirtPlugin"))
                    Await(token => VirtHost.UnregisterPluginAsync(id, token));
            });
        }
    }
}

/// <summary>Get-VirtStrategy: strategies, and whether this host can run them.</summary>
[Cmdlet(VerbsCommon.Get, "VirtStrategy")]
[OutputType(typeof(VirtStrategy))]
public sealed class GetVirtStrategy : VirtCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(StrategyCompleter))]
    public string[] Name { get; set; } = ["*"];

    protected override void ProcessRecord() => Terminating(() =>
        Emit(Await(token => VirtHost.GetStrategiesAsync(probe: true, token)), Name, s => s.Name, ErrorIds.StrategyNotFound, "strategy"));
}

/// <summary>Get-VirtDeviceModel: device models with their properties.</summary>
[Cmdlet(VerbsCommon.Get, "VirtDeviceModel")]
[OutputType(typeof(VirtDeviceModel))]
public sealed class GetVirtDeviceModel : VirtCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    [ArgumentCompleter(typeof(DeviceModelCompleter))]
    public string[] Model { get; set; } = ["*"];

    protected override void ProcessRecord() => Terminating(() =>
        Emit(Await(token => VirtHost.GetDeviceModelsAsync(token)), Model, m => m.Model, ErrorIds.DeviceModelNotFound, "device model"));
}
