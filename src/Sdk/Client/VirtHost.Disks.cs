using System.Text.Json.Nodes;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>Disk images, and the disks of VMs. Paths are absolute: the caller knows the user's folder.</content>
public sealed partial class VirtHost
{
    private const string PathProperty = "path", ReadOnlyProperty = "readOnly";

    /// <summary>Makes a raw disk image, which takes no room until it is written. Errors: DiskExists, DiskInvalid, DiskNotFound (the folder), AccessDenied.</summary>
    public async Task<VirtDisk> CreateDiskAsync(string path, ulong size, CancellationToken cancellation = default)
    {
        DiskFiles.Create(path, size);
        return await GetDiskAsync(path, cancellation).ConfigureAwait(false);
    }

    /// <summary>Errors: DiskNotFound, DiskInvalid, AccessDenied.</summary>
    public async Task<VirtDisk> GetDiskAsync(string path, CancellationToken cancellation = default)
    {
        (ulong size, ulong? allocated, bool inUse) = DiskFiles.Look(path);
        VmQueryResult all = await GetAsync((VmQuery?)null, cancellation).ConfigureAwait(false);
        List<string> users = [];
        foreach (VirtualMachine vm in all.Machines)
        {
            if (_store.TryLoad(vm.Id) is { } document && Disks(document.Configuration).Any(d => PathOf(d) == path))
                users.Add(vm.Name);
        }

        return new VirtDisk { Path = path, Format = "Raw", Size = size, AllocatedSize = allocated, InUse = inUse, VMName = users };
    }

    /// <summary>Makes an image larger, or with <paramref name="shrink"/> smaller, which loses what is behind. Errors: those of <see cref="GetDiskAsync"/>, DiskInUse.</summary>
    public async Task<VirtDisk> ResizeDiskAsync(string path, ulong size, bool shrink, CancellationToken cancellation = default)
    {
        DiskFiles.Resize(path, size, shrink);
        return await GetDiskAsync(path, cancellation).ConfigureAwait(false);
    }

    /// <summary>A spec for an image as a disk of a VM with that strategy. Errors: DeviceModelNotFound, DiskNotFound, DiskInvalid, AccessDenied.</summary>
    public JsonObject DescribeDisk(string strategy, string path, bool readOnly, string? model = null)
    {
        DiskFiles.Check(path);
        return new JsonObject { ["model"] = model ?? Plugins.DiskModelFor(strategy), [PathProperty] = path, [ReadOnlyProperty] = readOnly };
    }

    /// <summary>Gives a VM a disk. Errors: those of <see cref="DescribeDisk"/> and of <see cref="AddDeviceAsync"/>; DiskInvalid when the VM has it already.</summary>
    public async Task<VirtVMDisk> AddDiskAsync(Guid id, string path, bool readOnly, string? name, string? model, JsonObject? properties, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        VmConfiguration configuration = seen.Document.Configuration;
        JsonObject spec = DescribeDisk(configuration.Strategy, path, readOnly, model);
        if (!Plugins.DiskModels().Contains(DeviceList.ModelOf(spec)))
            throw new VirtException(ErrorIds.DeviceModelNotFound, $"'{DeviceList.ModelOf(spec)}' is no disk model. There are: {string.Join(", ", Plugins.DiskModels().Order(StringComparer.Ordinal))}.", "Leave -Model out for the strategy's own.", model);
        if (Disks(configuration).FirstOrDefault(d => PathOf(d) == path) is { } same)
            throw new VirtException(ErrorIds.DiskInvalid, $"VM '{configuration.Name}' has '{path}' already, as '{DeviceList.NameOf(same)}'.", "A disk image can be one disk of a VM only.", path);
        foreach ((string key, JsonNode? value) in properties ?? [])
            spec[key] = value?.DeepClone();
        spec["name"] = name ?? FreeDiskName(configuration.Devices);
        VirtVMDevice added = await AddDeviceAsync(id, spec, cancellation).ConfigureAwait(false);
        return (await GetDisksAsync(id, cancellation).ConfigureAwait(false)).Single(d => d.Name == added.Name);
    }

    /// <summary>The disks of a VM, in the order of their creation.</summary>
    public async Task<IReadOnlyList<VirtVMDisk>> GetDisksAsync(Guid id, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        VmConfiguration configuration = seen.Document.Configuration;
        WireDevice[] live = seen.Live ? await WorkerConnection.InvokeAsync<WireDevice[]>(id, seen.Document.Run!, RpcMethods.GetDevices, [], cancellation).ConfigureAwait(false) : [];
        return [.. Disks(configuration).Select(d => ToDisk(configuration, d) with { Counters = live.FirstOrDefault(w => DeviceList.NameOf(w.Specification) == DeviceList.NameOf(d))?.Disk })];
    }

    /// <summary>Gives a disk another image, or makes it read-only or writable; null leaves a thing as it is. Only while the VM does not run. Errors: DeviceNotFound, and those of <see cref="AddDiskAsync"/>.</summary>
    public async Task<VirtVMDisk> SetDiskAsync(Guid id, string name, string? path, bool? readOnly, CancellationToken cancellation = default)
    {
        if (path is not null)
            DiskFiles.Check(path);
        await ModifyOfflineAsync(id, "be changed", d => d.With(Validate(ChangeDisk(d.Configuration, name, path, readOnly))), cancellation).ConfigureAwait(false);
        return (await GetDisksAsync(id, cancellation).ConfigureAwait(false)).Single(d => d.Name.Equals(name, StringComparison.OrdinalIgnoreCase));
    }

    /// <summary>Takes a disk out of a VM; its image stays. Errors: DeviceNotFound, InvalidVMState.</summary>
    public async Task RemoveDiskAsync(Guid id, string name, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        FindDisk(seen.Document.Configuration, name);
        await RemoveDeviceAsync(id, name, cancellation).ConfigureAwait(false);
    }

    internal static string FreeDiskName(IReadOnlyList<JsonObject> devices)
    {
        int number = 0;
        while (DeviceList.Find(devices, $"disk{number}") is not null)
            number++;
        return $"disk{number}";
    }

    private VmConfiguration ChangeDisk(VmConfiguration configuration, string name, string? path, bool? readOnly)
    {
        JsonObject old = FindDisk(configuration, name);
        var changed = (JsonObject)old.DeepClone();
        if (path is not null)
            changed[PathProperty] = path;
        if (readOnly is { } r)
            changed[ReadOnlyProperty] = r;
        return configuration with { Devices = [.. configuration.Devices.Select(d => d == old ? changed : d)] };
    }

    private JsonObject FindDisk(VmConfiguration configuration, string name)
    {
        JsonObject[] disks = [.. Disks(configuration)];
        return disks.FirstOrDefault(d => DeviceList.NameOf(d).Equals(name, StringComparison.OrdinalIgnoreCase))
            ?? throw new VirtException(ErrorIds.DeviceNotFound, $"VM '{configuration.Name}' has no disk '{name}'. {(disks.Length == 0 ? "It has none." : $"It has: {string.Join(", ", disks.Select(DeviceList.NameOf))}.")}", "Get-VirtVMDisk lists them.", name);
    }

    private IEnumerable<JsonObject> Disks(VmConfiguration configuration)
    {
        IReadOnlySet<string> models = Plugins.DiskModels();
        return configuration.Devices.Where(d => models.Contains(DeviceList.ModelOf(d)));
    }

    private static VirtVMDisk ToDisk(VmConfiguration configuration, JsonObject spec) => new()
    {
        VMId = configuration.Id,
        VMName = configuration.Name,
        Name = DeviceList.NameOf(spec),
        Path = PathOf(spec),
        ReadOnly = spec[ReadOnlyProperty] is JsonValue v && v.TryGetValue(out bool readOnly) && readOnly,
        Model = DeviceList.ModelOf(spec),
        Size = File.Exists(PathOf(spec)) ? (ulong)new FileInfo(PathOf(spec)).Length : null,
        Property = DeviceList.PropertiesOf(spec).Where(p => p.Key is not (PathProperty or ReadOnlyProperty)).ToDictionary(p => p.Key, p => p.Value, StringComparer.OrdinalIgnoreCase),
    };

    private static string PathOf(JsonObject spec) => spec[PathProperty] is JsonValue v && v.TryGetValue(out string? path) ? path : "";
}
