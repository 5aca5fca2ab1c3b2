using System.Globalization;
using VirtPS.Strategy.Para.EventChannels;
using VirtPS.Strategy.Para.Shared;

namespace VirtPS.Strategy.Para.Store;

/// <summary>The store of the domain: the tree that guest and backends share (xenstore), the guest's connection with it, and the toolstack's part in it. Under the device lock.</summary>
internal sealed unsafe class XenStore
{
    private readonly XenDomain _domain;
    private readonly StoreConnection _connection;
    private ControlNode? _control;
    private StoreRing? _ring;

    public XenStore(XenDomain domain)
    {
        _domain = domain;
        _connection = new StoreConnection(Service, XenAbi.DomainId);
        Backends = new XenBackendHost(domain, Service);
    }

    public StoreService Service { get; } = new();

    /// <summary>What the backends of paravirtual devices get.</summary>
    public XenBackendHost Backends { get; }

    /// <summary>At start of day, before <see cref="Connect"/>: the tree of a new domain, as a toolstack makes it. Devices add theirs when they are reset.</summary>
    public void Reset()
    {
        _ring = null;
        _connection.OutputAvailable = null;
        _connection.Reset();
        Backends.Forget();
        Service.Clear();
        BuildTree();
        _control = new ControlNode(Service, XenAbi.DomainId);
    }

    /// <summary>The guest's ring page (public/io/xs_wire.h), zeroed. Returns the guest's event channel.</summary>
    public uint Connect(byte* ring)
    {
        BackendChannel channel = _domain.Ports.CreateChannel(() => _ring?.Pump());
        ulong gpa = (ulong)(ring - _domain.Frames.Pointer(0));
        _ring = new StoreRing(new SharedPage(_domain.Memory, gpa), _connection, channel.Notify, _domain.Log);
        return channel.Port;
    }

    /// <summary>Writes <c>control/shutdown</c>: asks the guest to switch itself off (<c>poweroff</c>) or to start anew (<c>reboot</c>).</summary>
    public void RequestShutdown(string reason)
    {
        bool listens = reason == "reboot" ? _control!.RequestReboot() : _control!.RequestPowerOff();
        if (!listens)
            _domain.Log.Write(Sdk.LogLevel.Information, $"The guest's kernel does not listen for '{reason}' yet; the request stands until it does.");
    }

    private void BuildTree()
    {
        string home = StorePath.HomeOf(XenAbi.DomainId);
        var mine = new StorePermission('n', 0);
        var readable = new StorePermission('r', XenAbi.DomainId);
        var owned = new StorePermission('n', XenAbi.DomainId);
        string vm = $"/vm/{_domain.Configuration.Id:D}";
        Service.Write(home, "", mine, readable);
        Service.Write(vm, "", mine, readable);
        Service.Write($"{vm}/name", _domain.Configuration.Name);
        Service.Write($"{vm}/uuid", $"{_domain.Configuration.Id:D}");
        Service.Write($"{home}/vm", vm);
        Service.Write($"{home}/name", _domain.Configuration.Name);
        Service.Write($"{home}/domid", XenAbi.DomainId.ToString(CultureInfo.InvariantCulture));
        // No memory/target: there is no balloon behind it.
        for (int i = 0; i < _domain.VcpuCount; i++)
            Service.Write(string.Create(CultureInfo.InvariantCulture, $"{home}/cpu/{i}/availability"), "online");
        Service.Write($"{home}/device", "", mine, readable);
        foreach (string folder in (ReadOnlySpan<string>)["data", "attr", "drivers", "error", "feature"])
            Service.Write($"{home}/{folder}", "", owned);
    }
}
