using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Block;

/// <summary>Properties of a <c>vbd</c>, beside those of every disk (path, readOnly, sectorSize, discard), which its backend reads.</summary>
public sealed class BlockSpec
{
    /// <summary><c>xvda</c> to <c>xvdz</c>; null: the first that is free.</summary>
    public string? Device { get; set; }

    /// <summary>Offer persistent grants: the guest then copies through pages that it has granted once. Nothing is saved by it here, where a grant costs a look-up.</summary>
    public bool PersistentGrants { get; set; }
}

/// <summary>Names and numbers of Xen's virtual disks (docs/man/xen-vbd-interface.7).</summary>
internal static class BlockNames
{
    private const int Major = 202, Extended = 1 << 28;

    public static IReadOnlyList<string> All { get; } = [.. Enumerable.Range('a', 26).Select(c => $"xvd{(char)c}")];

    /// <summary>The device number that the store calls it by: 16 per disk up to xvdp, the extended scheme beyond.</summary>
    public static int NumberOf(string name)
    {
        int index = name[^1] - 'a';
        return index < 16 ? (Major << 8) | (index << 4) : Extended | (index << 8);
    }
}

/// <summary>The names that a machine's disks have taken; offered by the first of them.</summary>
internal sealed class BlockNameList
{
    private readonly Dictionary<string, string> _taken = [];

    public string Take(string? wanted, DeviceContext context)
    {
        string name = wanted?.ToLowerInvariant() ?? BlockNames.All.FirstOrDefault(n => !_taken.ContainsKey(n))
            ?? throw new VirtException("DeviceConflict", $"Device '{context.Name}': a VM has at most {BlockNames.All.Count} disks.", null, context.Name);
        if (!BlockNames.All.Contains(name))
            throw SpecCheck.Invalid(context, "device", wanted, "It must be one of xvda to xvdz.");
        if (_taken.TryGetValue(name, out string? owner))
            throw new VirtException("DeviceConflict", $"Device '{context.Name}': the guest's {name} is '{owner}' already.", "Give one of them another 'device'.", context.Name);
        _taken.Add(name, context.Name);
        return name;
    }
}

internal sealed class BlockDeviceFactory : IDeviceFactory
{
    public string Model => "vbd";

    public IDevice Create(JsonObject spec, DeviceContext context)
    {
        BlockSpec properties = Read(spec, context);
        IBackendHost host = context.GetService<XenDomain>()?.Store.Backends
            ?? throw new VirtException("DevicePropertyInvalid", $"Device '{context.Name}': a Xen disk needs a machine with Xen's interface.", "Use the strategy Para, or another disk model.", context.Name);
        BlockNameList? names = context.GetService<BlockNameList>();
        if (names is null)
            context.Provide(names = new BlockNameList());
        string name = names.Take(properties.Device, context);
        IBlockBackend disk = context.OpenBlock(spec);
        return new BlockDevice(properties, name, context, host, disk);
    }

    private static BlockSpec Read(JsonObject spec, DeviceContext context)
    {
        string? device = spec["device"] is { } d ? d.GetValueKind() == System.Text.Json.JsonValueKind.String ? d.GetValue<string>() : throw SpecCheck.Invalid(context, "device", d.ToJsonString(), "It must be one of xvda to xvdz.") : null;
        bool persistent = spec["persistentGrants"]?.GetValueKind() == System.Text.Json.JsonValueKind.True;
        return new BlockSpec { Device = device, PersistentGrants = persistent };
    }
}
