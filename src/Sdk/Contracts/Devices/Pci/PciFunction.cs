using System.Buffers.Binary;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Sdk.Devices.Pci;

/// <summary>
/// A PCI function's configuration space with everything that is the same in all of them: identity, command and status, movable BARs, capabilities, INTx. A device owns one, adds BARs and
/// capabilities in its constructor, and then attaches it to the <see cref="IPciBus"/>. PCI Local Bus 3.0 chapter 6. Under the device lock.
/// </summary>
/// <example>
/// <code>
/// _pci = new PciFunction(context, new PciIdentity(0x1B36, 0x0042, 0xFF0000, InterruptPin: 1));
/// _pci.AddMemoryBar(0, 4096, registers);
/// _msix = _pci.AddMsiX(vectors: 4, bar: 1);
/// _pci.Attach(context.GetService&lt;IPciBus&gt;()!);
/// </code>
/// </example>
public sealed class PciFunction : IPciFunction, IDisposable
{
    private const PciCommand WritableCommand = PciCommand.IoSpace | PciCommand.MemorySpace | PciCommand.BusMaster | PciCommand.ParityErrorResponse
        | PciCommand.SystemErrorEnable | PciCommand.InterruptDisable;

    private readonly DeviceContext _context;
    private readonly PciIdentity _identity;
    private readonly byte[] _config = new byte[PciConfig.Size];
    private readonly byte[] _initial = new byte[PciConfig.Size];
    private readonly byte[] _writable = new byte[PciConfig.Size];
    private readonly PciBar?[] _bars = new PciBar?[PciConfig.BarCount];
    private readonly List<PciCapability> _capabilities = [];
    private int _nextCapability = PciConfig.FirstCapability;
    private int _lastPointer = PciConfig.CapabilitiesPointer;
    private IPciBus? _bus;
    private InterruptLine _pin = InterruptLine.Unconnected;
    private bool _interrupt;

    public PciFunction(DeviceContext context, PciIdentity identity)
    {
        (_context, _identity) = (context, identity);
        SetInitial(PciConfig.VendorId, 2, identity.Vendor);
        SetInitial(PciConfig.DeviceId, 2, identity.Device);
        SetInitial(PciConfig.Revision, 4, identity.Revision | (identity.ClassCode << 8));
        SetInitial(PciConfig.SubsystemVendorId, 2, identity.SubsystemVendor);
        SetInitial(PciConfig.SubsystemId, 2, identity.Subsystem);
        SetInitial(PciConfig.InterruptPin, 1, identity.InterruptPin);
        SetWritable(PciConfig.Command, 2, (ushort)WritableCommand);
        SetWritable(PciConfig.CacheLineSize, 1, 0xFF);
        SetWritable(PciConfig.LatencyTimer, 1, 0xFF);
        SetWritable(PciConfig.InterruptLine, 1, 0xFF);
    }

    /// <summary>Where it is on the bus; null while it is not attached.</summary>
    public int? DeviceNumber { get; private set; }

    /// <summary>BARs by index; null where there is none.</summary>
    public IReadOnlyList<PciBar?> Bars => _bars;

    public PciCommand Command => (PciCommand)BinaryPrimitives.ReadUInt16LittleEndian(_config.AsSpan(PciConfig.Command));

    /// <summary>The guest allows the function to read and write memory, and to send messages.</summary>
    public bool IsBusMaster => (Command & PciCommand.BusMaster) != 0;

    /// <summary>Called after the guest changed the command register.</summary>
    public Action<PciCommand>? CommandChanged { get; set; }

    /// <summary>The MSI-X capability, when one was added.</summary>
    public MsiXCapability? MsiX => _capabilities.OfType<MsiXCapability>().SingleOrDefault();

    /// <summary>The MSI capability, when one was added.</summary>
    public MsiCapability? Msi => _capabilities.OfType<MsiCapability>().SingleOrDefault();

    /// <summary>The guest has switched to messages: INTx stays silent (§6.8.1.3).</summary>
    public bool UsesMessages => MsiX is { IsEnabled: true } || Msi is { IsEnabled: true };

    internal IMsiTarget MessageTarget => _context.Msi;

    // Construction

    /// <summary>Adds a memory BAR. <paramref name="length"/> in bytes: a power of two, at least 16.</summary>
    public PciBar AddMemoryBar(int index, ulong length, IMmioDevice device, bool is64 = false, bool prefetchable = false, int maxAccess = 8)
    {
        PciBar bar = AddBar(index, length, minimum: 16, isIo: false, is64, prefetchable, a => _context.MapMmio(a, length, device, maxAccess));
        SetInitial(bar.ConfigOffset, 4, bar.Flags);
        SetWritable(bar.ConfigOffset, 4, (uint)~(length - 1));
        if (is64)
            SetWritable(bar.ConfigOffset + 4, 4, (uint)(~(length - 1) >> 32));
        return bar;
    }

    /// <summary>Adds an I/O BAR. <paramref name="length"/> in ports: a power of two, 4–256.</summary>
    public PciBar AddIoBar(int index, int length, IPortDevice device, int maxAccess = 4)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(length, 256);
        PciBar bar = AddBar(index, (ulong)length, minimum: 4, isIo: true, is64: false, prefetchable: false, a => _context.MapPorts((ushort)a, length, device, maxAccess));
        SetInitial(bar.ConfigOffset, 4, bar.Flags);
        // The upper half is hardwired to zero: PC ports have 16 bits.
        SetWritable(bar.ConfigOffset, 4, 0xFFFFu & (uint)~(length - 1));
        return bar;
    }

    private PciBar AddBar(int index, ulong length, ulong minimum, bool isIo, bool is64, bool prefetchable, Func<ulong, IBusRegion> map)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(index);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(index + (is64 ? 1 : 0), PciConfig.BarCount, nameof(index));
        if (length < minimum || (length & (length - 1)) != 0 || (!is64 && length > 1u << 31))
            throw new ArgumentOutOfRangeException(nameof(length), length, $"A power of two, at least {minimum}; below 4 GiB unless the BAR has 64 bits.");
        if (_bars[index] is not null || (index > 0 && _bars[index - 1] is { Is64: true }) || (is64 && _bars[index + 1] is not null))
            throw new ArgumentException($"BAR {index} is taken.", nameof(index));
        return _bars[index] = new PciBar(_context, index, length, isIo, is64, prefetchable, map);
    }

    /// <summary>Appends to the capabilities list. Throws <see cref="InvalidOperationException"/> when the space is used up.</summary>
    public T AddCapability<T>(T capability) where T : PciCapability
    {
        int offset = _nextCapability;
        if (offset + capability.Length > PciConfig.Size)
            throw new InvalidOperationException("No room for another capability in configuration space.");
        (capability.Offset, capability.Function) = (offset, this);
        _nextCapability = (offset + capability.Length + 3) & ~3;
        SetInitial(_lastPointer, 1, (byte)offset);
        SetInitial(offset, 1, capability.Id);
        SetInitial(PciConfig.Status, 2, (ushort)PciStatus.CapabilitiesList);
        _lastPointer = offset + 1;
        _capabilities.Add(capability);
        capability.Initialize();
        return capability;
    }

    /// <summary>Adds MSI with up to 32 vectors (a power of two) and per-vector masking.</summary>
    public MsiCapability AddMsi(int vectors = 1) => AddCapability(new MsiCapability(vectors));

    /// <summary>Adds MSI-X with 1–2048 vectors; table and pending bits get memory BAR <paramref name="bar"/> for themselves.</summary>
    public MsiXCapability AddMsiX(int vectors, int bar)
    {
        MsiXCapability capability = AddCapability(new MsiXCapability(vectors, bar));
        AddMemoryBar(bar, capability.BarLength, capability);
        return capability;
    }

    /// <summary>Sets bytes of the configuration space as they are after a reset, and now.</summary>
    public void SetInitial(int offset, int size, uint value)
    {
        for (int i = 0; i < size; i++)
            _config[offset + i] = _initial[offset + i] = (byte)(value >> (8 * i));
    }

    /// <summary>Sets bytes of the configuration space now (a register that the device itself changes).</summary>
    public void SetConfig(int offset, int size, uint value)
    {
        for (int i = 0; i < size; i++)
            _config[offset + i] = (byte)(value >> (8 * i));
    }

    /// <summary>Bytes of the configuration space, without any reaction.</summary>
    public uint GetConfig(int offset, int size)
    {
        uint value = 0;
        for (int i = 0; i < size; i++)
            value |= (uint)_config[offset + i] << (8 * i);
        return value;
    }

    /// <summary>Says which bits the guest may write.</summary>
    public void SetWritable(int offset, int size, uint mask)
    {
        for (int i = 0; i < size; i++)
            _writable[offset + i] = (byte)(mask >> (8 * i));
    }

    /// <summary>Puts the function on the bus; see <see cref="IPciBus.Add"/>.</summary>
    public void Attach(IPciBus bus, int? device = null, int functionNumber = 0)
    {
        DeviceNumber = bus.Add(this, device, functionNumber);
        _bus = bus;
        if (_identity.InterruptPin != 0)
            _pin = bus.GetPin(DeviceNumber.Value, _identity.InterruptPin - 1);
    }

    // The guest's side

    public uint ReadConfig(int offset, int size)
    {
        if (FindCapability(offset) is { } capability)
            capability.Reading(offset - capability.Offset, size);
        uint value = GetConfig(offset, size);
        if (offset <= PciConfig.Status && offset + size > PciConfig.Status && _interrupt)
            value |= (uint)PciStatus.InterruptStatus << (8 * (PciConfig.Status - offset));
        return value;
    }

    public void WriteConfig(int offset, int size, uint value)
    {
        for (int i = 0; i < size; i++)
        {
            byte mask = _writable[offset + i];
            _config[offset + i] = (byte)((_config[offset + i] & ~mask) | ((byte)(value >> (8 * i)) & mask));
        }

        if (offset < PciConfig.Status && offset + size > PciConfig.Command)
        {
            PlaceBars();
            DriveInterrupt();
            CommandChanged?.Invoke(Command);
        }
        else if (offset is >= PciConfig.Bar0 and < PciConfig.Bar0 + (4 * PciConfig.BarCount))
        {
            PlaceBars();
        }
        else if (FindCapability(offset) is { } capability)
        {
            capability.Written(offset - capability.Offset, size);
            DriveInterrupt();
        }
    }

    private PciCapability? FindCapability(int offset)
    {
        if (offset < PciConfig.FirstCapability)
            return null;
        foreach (PciCapability c in _capabilities)
        {
            if (offset >= c.Offset && offset < c.Offset + c.Length)
                return c;
        }

        return null;
    }

    private void PlaceBars()
    {
        foreach (PciBar? bar in _bars)
        {
            if (bar is null)
                continue;
            bool enabled = (Command & (bar.IsIo ? PciCommand.IoSpace : PciCommand.MemorySpace)) != 0;
            ulong address = GetConfig(bar.ConfigOffset, 4) & (bar.IsIo ? ~3u : ~15u);
            if (bar.Is64)
                address |= (ulong)GetConfig(bar.ConfigOffset + 4, 4) << 32;
            bar.Place(enabled ? address : null);
        }
    }

    // Interrupts

    /// <summary>Level of the function's INTx. The command register and enabled messages keep it off the wire.</summary>
    public void SetInterrupt(bool asserted)
    {
        _interrupt = asserted;
        DriveInterrupt();
    }

    private void DriveInterrupt() => _pin.Set(_interrupt && !UsesMessages && (Command & PciCommand.InterruptDisable) == 0);

    // Life

    /// <summary>Bus reset: the header, BARs and capabilities as after power-on.</summary>
    public void Reset()
    {
        _initial.CopyTo(_config, 0);
        _interrupt = false;
        foreach (PciCapability capability in _capabilities)
            capability.Reset();
        PlaceBars();
        DriveInterrupt();
    }

    public PciFunctionState Save()
    {
        PciFunctionState state = new() { Config = [.. _config], Interrupt = _interrupt };
        foreach (PciCapability capability in _capabilities)
        {
            if (capability.Save() is { } bytes)
                state.Capabilities[capability.Offset] = bytes;
        }

        return state;
    }

    /// <summary>Restores into a function with the same BARs and capabilities. Throws <see cref="VirtException"/> (<c>DeviceStateInvalid</c>) for another device's state.</summary>
    public void Restore(PciFunctionState state)
    {
        if (state.Config.Length != PciConfig.Size || !state.Config.AsSpan(0, 4).SequenceEqual(_initial.AsSpan(0, 4)))
            throw new VirtException("DeviceStateInvalid", $"Device '{_context.Name}': the saved PCI configuration is of another device.");
        state.Config.CopyTo(_config, 0);
        _interrupt = state.Interrupt;
        foreach (PciCapability capability in _capabilities)
            capability.Restore(state.Capabilities.GetValueOrDefault(capability.Offset));
    }

    /// <summary>After <see cref="Restore"/>: puts BARs on the bus and drives the pin.</summary>
    public void Resume()
    {
        PlaceBars();
        DriveInterrupt();
    }

    /// <summary>Takes the function off its bus, with its regions and interrupt.</summary>
    public void Dispose()
    {
        _bus?.Remove(this);
        (_bus, DeviceNumber) = (null, null);
        _pin.Set(false);
        foreach (PciBar? bar in _bars)
            bar?.Remove();
    }
}
