using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Devices.Pci;
using VirtPS.Sdk.Machine;

namespace VirtPS.Device.PciHost;

/// <summary>
/// Configuration mechanism #1 (PCI Local Bus 3.0 §3.2.2.3.2): CONFIG_ADDRESS at 0xCF8, CONFIG_DATA at 0xCFC. The bridge itself is 0:0.0, an Intel id that
/// guests know as a plain virtual host bridge without chip-set registers. As in Intel's chip sets, a byte access to 0xCF9 is the reset control register. Provides <see cref="IPciBus"/>.
/// </summary>
internal sealed class HostBridge : IDevice, IPortDevice
{
    public const string TypeId = "virtps.pcihost/host-bridge";
    public const int Schema = 1;

    private const uint ConfigEnable = 1u << 31, AddressBits = ConfigEnable | 0x00FF_FFFC;

    /// <summary>Reset control register (Intel PIIX3 data sheet, RC): bit 1 full reset, bit 2 resets when it goes from 0 to 1.</summary>
    private const byte SystemReset = 1 << 1, ResetCpu = 1 << 2;

    // Wiring.
    private readonly IMachineControl? _machine;
    private readonly IBusRegion[] _regions;
    private readonly RootBus _bus;
    private readonly PciFunction _self;

    // Guest-visible state, besides the bridge's own configuration space.
    private uint _address;
    private byte _resetControl;

    public HostBridge(DeviceContext context)
    {
        _machine = context.GetService<IMachineControl>();
        _bus = new RootBus(context);
        _self = new PciFunction(context, new PciIdentity(Vendor: 0x8086, Device: 0x0D57, ClassCode: 0x060000));
        _self.Attach(_bus, device: 0);
        _regions =
        [
            context.MapPorts(PcLayout.PciConfigAddressPort, 4, this, maxAccess: 4),
            context.MapPorts(PcLayout.PciConfigDataPort, 4, new DataPort(this), maxAccess: 4),
        ];
        context.Provide<IPciBus>(_bus);
    }

    public void Reset(ResetKind kind)
    {
        (_address, _resetControl) = (0, 0);
        _self.Reset();
    }

    /// <summary>Only a 32-bit access at offset 0 reaches CONFIG_ADDRESS; narrower ones pass it by.</summary>
    public uint ReadPort(int offset, int size) =>
        offset == 0 && size == 4 ? _address
        : offset == PcLayout.ResetPort - PcLayout.PciConfigAddressPort && size == 1 ? _resetControl
        : uint.MaxValue;

    public void WritePort(int offset, int size, uint value)
    {
        if (offset == 0 && size == 4)
            _address = value & AddressBits;
        else if (offset == PcLayout.ResetPort - PcLayout.PciConfigAddressPort && size == 1)
            WriteResetControl((byte)value);
    }

    private void WriteResetControl(byte value)
    {
        bool rises = (value & ~_resetControl & ResetCpu) != 0;
        _resetControl = (byte)(value & (SystemReset | ResetCpu));
        if (rises)
            _machine?.RequestReset("reset control register 0xCF9");
    }

    private uint ReadData(int offset, int size)
    {
        if (!TryDecode(out int device, out int function, out int register))
            return uint.MaxValue;
        if ((offset & (size - 1)) == 0)
            return _bus.Read(device, function, register + offset, size);
        uint value = 0;
        for (int i = 0; i < size; i++)
            value |= (_bus.Read(device, function, register + offset + i, 1) & 0xFF) << (8 * i);
        return value;
    }

    private void WriteData(int offset, int size, uint value)
    {
        if (!TryDecode(out int device, out int function, out int register))
            return;
        if ((offset & (size - 1)) == 0)
        {
            _bus.Write(device, function, register + offset, size, value);
            return;
        }

        for (int i = 0; i < size; i++)
            _bus.Write(device, function, register + offset + i, 1, (byte)(value >> (8 * i)));
    }

    /// <summary>Configuration cycles are enabled and for bus 0, the only one.</summary>
    private bool TryDecode(out int device, out int function, out int register)
    {
        device = (int)(_address >> 11 & 31);
        function = (int)(_address >> 8 & 7);
        register = (int)(_address & 0xFC);
        return (_address & ConfigEnable) != 0 && (_address >> 16 & 0xFF) == 0;
    }

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, new HostBridgeState
    {
        Address = _address,
        ResetControl = _resetControl,
        Function = _self.Save(),
    });

    public void Restore(DeviceState state)
    {
        HostBridgeState s = state.Read<HostBridgeState>(TypeId, Schema);
        (_address, _resetControl) = (s.Address, s.ResetControl);
        _self.Restore(s.Function);
    }

    public void Resume() => _self.Resume();

    public void Dispose()
    {
        foreach (IBusRegion region in _regions)
            region.Dispose();
        _self.Dispose();
    }

    private sealed class DataPort(HostBridge bridge) : IPortDevice
    {
        public uint ReadPort(int offset, int size) => bridge.ReadData(offset, size);

        public void WritePort(int offset, int size, uint value) => bridge.WriteData(offset, size, value);
    }
}

/// <summary>Saved state, schema 1. Devices on the bus save themselves.</summary>
internal sealed record HostBridgeState
{
    public uint Address { get; init; }

    public byte ResetControl { get; init; }

    public PciFunctionState Function { get; init; } = new();
}
