using System.Text.Json.Nodes;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>What a VM is.</content>
public sealed partial class VirtHost
{
    /// <summary>
    /// Makes a VM. Errors: VMNameInvalid, VMNameInUse, MemoryInvalid, ConfigurationInvalid, StrategyNotFound, DeviceModelNotFound, DevicePropertyInvalid, ImageNotFound.
    /// </summary>
    public async Task<VirtualMachine> CreateAsync(VmSpecification specification, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(specification);
        VmNames.Validate(specification.Name);
        var configuration = new VmConfiguration
        {
            Id = Guid.NewGuid(),
            Name = specification.Name,
            CreationTime = DateTimeOffset.Now,
            Notes = specification.Notes,
            Strategy = specification.Strategy,
            StrategyOptions = specification.StrategyOptions,
            Memory = specification.Memory,
            ProcessorCount = specification.ProcessorCount,
            Boot = specification.Boot,
            Devices = CompleteDevices(specification.Devices),
            OnReset = specification.OnReset,
            OnTripleFault = specification.OnTripleFault,
        };
        configuration = Validate(configuration);
        await _store.CreateAsync(configuration, cancellation).ConfigureAwait(false);
        return await GetAsync(configuration.Id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Changes a VM. Errors: InvalidVMState, and those of <see cref="CreateAsync"/>.</summary>
    public async Task<VirtualMachine> SetAsync(Guid id, VmChanges changes, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(changes);
        if (changes.Notes is { } notes && changes == new VmChanges { Notes = notes })
            await ModifyAsync(id, RpcMethods.SetNotes, notes, c => c with { Notes = notes }, cancellation).ConfigureAwait(false);
        else
            await ModifyOfflineAsync(id, "be changed", d => d.With(Validate(Apply(d.Configuration, changes))), cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Renames, in any state. Errors: VMNameInvalid, VMNameInUse.</summary>
    public async Task<VirtualMachine> RenameAsync(Guid id, string newName, CancellationToken cancellation = default)
    {
        await _store.RenameAsync(id, newName, token => ModifyAsync(id, RpcMethods.SetName, newName, c => c with { Name = newName }, token), cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Deletes the VM and its folder, readable or not; only while it does not run (InvalidVMState).</summary>
    public async Task RemoveAsync(Guid id, CancellationToken cancellation = default)
    {
        using FileLock? held = await _store.LockAsync(id, TimeSpan.FromSeconds(1), cancellation).ConfigureAwait(false);
        if (held is null)
        {
            StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
            throw seen.Live
                ? InvalidState(seen, "be removed", "Turn it off first (Stop-VirtVM -TurnOff).")
                : new VirtException(ErrorIds.VMBusy, $"VM '{seen.Document.Configuration.Name}' is being changed by another process.", "Try again.", seen.Document.Configuration.Name);
        }

        _store.Delete(id, held);
    }

    /// <summary>
    /// Adds a device: <c>model</c> (<c>plugin/model</c>), <c>name</c> (made up when missing) and the model's properties. While the VM runs only where the machine
    /// allows it (else InvalidVMState).
    /// </summary>
    public async Task<VirtVMDevice> AddDeviceAsync(Guid id, JsonObject specification, CancellationToken cancellation = default)
    {
        ArgumentNullException.ThrowIfNull(specification);
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (seen.Live)
        {
            JsonObject complete = CompleteDevices([.. seen.Document.Configuration.Devices, specification])[^1];
            Plugins.CheckDevice(complete);
            await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, RpcMethods.AddDevice, [complete], cancellation).ConfigureAwait(false);
            return ToDevice(seen.Document.Configuration, complete, isPlatform: false);
        }

        VmDocument changed = await ModifyOfflineAsync(id, "be given a device", d => d.With(Validate(d.Configuration with { Devices = CompleteDevices([.. d.Configuration.Devices, specification]) })), cancellation).ConfigureAwait(false);
        return ToDevice(changed.Configuration, changed.Configuration.Devices[^1], isPlatform: false);
    }

    /// <summary>The configured devices, and while the VM runs also the platform's own.</summary>
    public async Task<IReadOnlyList<VirtVMDevice>> GetDevicesAsync(Guid id, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        VmConfiguration configuration = seen.Document.Configuration;
        if (!seen.Live)
            return [.. configuration.Devices.Select(d => ToDevice(configuration, d, isPlatform: false))];
        WireDevice[] devices = await WorkerConnection.InvokeAsync<WireDevice[]>(id, seen.Document.Run!, RpcMethods.GetDevices, [], cancellation).ConfigureAwait(false);
        return [.. devices.Select(d => ToDevice(configuration, d.Specification, d.IsPlatform))];
    }

    /// <summary>Errors: DeviceNotFound; InvalidVMState while the machine cannot let it go.</summary>
    public async Task RemoveDeviceAsync(Guid id, string name, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (seen.Live)
            await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, RpcMethods.RemoveDevice, [name], cancellation).ConfigureAwait(false);
        else
            await ModifyOfflineAsync(id, "lose a device", d => d.With(d.Configuration with { Devices = DeviceList.Without(d.Configuration, name) }), cancellation).ConfigureAwait(false);
    }

    /// <summary>A change that a running VM's worker makes itself, because it holds the lock. The VM may start or stop between two tries.</summary>
    private async Task ModifyAsync(Guid id, string method, string argument, Func<VmConfiguration, VmConfiguration> change, CancellationToken cancellation)
    {
        for (int attempt = 0; ; attempt++)
        {
            StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
            try
            {
                if (seen.Live)
                    await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, method, [argument], cancellation).ConfigureAwait(false);
                else
                    await ModifyOfflineAsync(id, "be changed", d => d.With(change(d.Configuration)), cancellation).ConfigureAwait(false);
                return;
            }
            catch (VirtException e) when (attempt < 5 && e.ErrorId is ErrorIds.WorkerGone or ErrorIds.InvalidVMState)
            {
                await Task.Delay(50, cancellation).ConfigureAwait(false);
            }
        }
    }

    private static VmConfiguration Apply(VmConfiguration c, VmChanges changes) => c with
    {
        Notes = changes.Notes ?? c.Notes,
        Strategy = changes.Strategy ?? c.Strategy,
        StrategyOptions = changes.StrategyOptions ?? c.StrategyOptions,
        Memory = changes.Memory ?? c.Memory,
        ProcessorCount = changes.ProcessorCount ?? c.ProcessorCount,
        Boot = changes.Boot ?? c.Boot,
        OnReset = changes.OnReset ?? c.OnReset,
        OnTripleFault = changes.OnTripleFault ?? c.OnTripleFault,
    };

    /// <summary>Gives names to devices that have none, and refuses doubles.</summary>
    private static IReadOnlyList<JsonObject> CompleteDevices(IReadOnlyList<JsonObject> devices)
    {
        var result = new List<JsonObject>(devices.Count);
        foreach (JsonObject given in devices)
        {
            var device = (JsonObject)given.DeepClone();
            DeviceList.Complete(device, result);
            result.Add(device);
        }

        return result;
    }

    private VmConfiguration Validate(VmConfiguration configuration)
    {
        ConfigurationCheck.Check(configuration);
        configuration = configuration with { Strategy = Plugins.CheckStrategy(configuration.Strategy) };
        foreach (JsonObject device in configuration.Devices)
            Plugins.CheckDevice(device);
        return configuration;
    }

    private static VirtVMDevice ToDevice(VmConfiguration configuration, JsonObject specification, bool isPlatform) => new()
    {
        VMId = configuration.Id,
        VMName = configuration.Name,
        Name = DeviceList.NameOf(specification),
        Model = DeviceList.ModelOf(specification),
        IsPlatform = isPlatform,
        Property = DeviceList.PropertiesOf(specification),
    };
}
