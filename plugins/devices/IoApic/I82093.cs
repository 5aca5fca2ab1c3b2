using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Device.IoApic;

/// <summary>
/// I/O APIC: the 82093AA's registers with the EOI register of its successors (version 0x20). Pins are told whether they are asserted, so the polarity bit is kept but
/// has no effect. Edges on a masked pin are lost, as on the real part. Provides <see cref="IInterruptInput"/>
/// (<see cref="InterruptInputs.IoApic"/>) and <see cref="IEoiListener"/>; sends to the machine's <see cref="IMsiTarget"/>.
/// </summary>
internal sealed class I82093 : IDevice, IMmioDevice, IInterruptInput, IEoiListener
{
    public const string TypeId = "virtps.ioapic/ioapic";
    public const int Schema = 1;

    private const int Pins = PcLayout.IoApicPinCount;

    /// <summary>§3.1: the two windows, and EOI (ICH data sheets, "EOI register").</summary>
    private const ulong RegisterSelect = 0x00, Window = 0x10, EoiRegister = 0x40;

    /// <summary>§3.2: indirect registers.</summary>
    private const byte IdIndex = 0, VersionIndex = 1, ArbitrationIndex = 2, TableIndex = 0x10;

    private const uint Version = 0x20 | ((Pins - 1) << 16);

    // Wiring.
    private readonly IMsiTarget _bus;
    private readonly IBusRegion _region;

    // Guest-visible state.
    private byte _select, _id;
    private readonly RedirectionEntry[] _table = new RedirectionEntry[Pins];
    /// <summary>A bit for each pin: asserted as last told.</summary>
    private uint _pins;

    public I82093(DeviceContext context)
    {
        _bus = context.Msi;
        _region = context.MapMmio(PcLayout.IoApicBase, PcLayout.IoApicLength, this, maxAccess: 4);
        Reset(ResetKind.Cold);
        context.Provide<IInterruptInput>(this, InterruptInputs.IoApic);
        context.Provide<IEoiListener>(this);
    }

    public void Reset(ResetKind kind)
    {
        (_select, _id) = (0, PcLayout.IoApicId);
        Array.Fill(_table, RedirectionEntry.AfterReset);
    }

    public void SetPin(int pin, bool level)
    {
        if ((uint)pin >= Pins)
            return;
        uint bit = 1u << pin;
        bool rises = level && (_pins & bit) == 0;
        _pins = level ? _pins | bit : _pins & ~bit;
        if (_table[pin].IsLevel)
            Sync(pin);
        else if (rises && !_table[pin].IsMasked)
            Send(pin);
    }

    public void EndOfInterrupt(byte vector)
    {
        for (int pin = 0; pin < Pins; pin++)
        {
            if (_table[pin].Vector != vector || !_table[pin].IsLevel || !_table[pin].RemoteIrr)
                continue;
            _table[pin] = _table[pin].WithRemoteIrr(false);
            Sync(pin);
        }
    }

    public ulong ReadMmio(ulong offset, int size) => (offset & ~3ul) switch
    {
        RegisterSelect => _select,
        Window => ReadIndirect() >> (8 * (int)(offset & 3)),
        _ => 0,
    };

    /// <summary>Registers are written with their lowest byte addressed; only 32-bit accesses are defined (§3.1).</summary>
    public void WriteMmio(ulong offset, int size, ulong value)
    {
        switch (offset)
        {
            case RegisterSelect:
                _select = (byte)value;
                break;
            case Window:
                WriteIndirect((uint)value);
                break;
            case EoiRegister:
                EndOfInterrupt((byte)value);
                break;
        }
    }

    private uint ReadIndirect() => _select switch
    {
        IdIndex or ArbitrationIndex => (uint)_id << 24,
        VersionIndex => Version,
        >= TableIndex and < TableIndex + (2 * Pins) => (uint)(_table[(_select - TableIndex) >> 1].Bits >> ((_select & 1) * 32)),
        _ => 0,
    };

    private void WriteIndirect(uint value)
    {
        switch (_select)
        {
            case IdIndex:
                _id = (byte)(value >> 24 & 0x0F);
                break;
            case >= TableIndex and < TableIndex + (2 * Pins):
                WriteEntry((_select - TableIndex) >> 1, (_select & 1) != 0, value);
                break;
        }
    }

    private void WriteEntry(int pin, bool high, uint value)
    {
        ulong old = _table[pin].Bits;
        ulong merged = high ? (old & uint.MaxValue) | ((ulong)value << 32) : (old & ~(ulong)uint.MaxValue) | value;
        RedirectionEntry entry = new((merged & RedirectionEntry.Writable) | (old & RedirectionEntry.RemoteIrrBit));
        // An entry turned to edge forgets remote IRR; Linux clears a stuck one that way on parts without an EOI register.
        _table[pin] = entry.IsLevel ? entry : entry.WithRemoteIrr(false);
        Sync(pin);
    }

    /// <summary>A level-triggered pin sends when it is asserted, unmasked and its last message has been ended.</summary>
    private void Sync(int pin)
    {
        RedirectionEntry entry = _table[pin];
        if (entry.IsLevel && !entry.IsMasked && !entry.RemoteIrr && (_pins >> pin & 1) != 0)
            Send(pin);
    }

    private void Send(int pin)
    {
        if (_table[pin].IsLevel)
            _table[pin] = _table[pin].WithRemoteIrr(true);
        _bus.Send(_table[pin].ToMessage());
    }

    public void Quiesce()
    {
    }

    public DeviceState Save() => DeviceState.From(TypeId, Schema, new IoApicState
    {
        Select = _select,
        Id = _id,
        Pins = _pins,
        Table = [.. _table.Select(e => e.Bits)],
    });

    public void Restore(DeviceState state)
    {
        IoApicState s = state.Read<IoApicState>(TypeId, Schema);
        if (s.Table.Length != Pins)
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' has {s.Table.Length} pins instead of {Pins}.");
        (_select, _id, _pins) = (s.Select, s.Id, s.Pins);
        for (int i = 0; i < Pins; i++)
            _table[i] = new RedirectionEntry(s.Table[i]);
    }

    public void Resume()
    {
        for (int pin = 0; pin < Pins; pin++)
            Sync(pin);
    }

    public void Dispose() => _region.Dispose();
}

/// <summary>Saved state, schema 1.</summary>
internal sealed record IoApicState
{
    public byte Select { get; init; }

    public byte Id { get; init; }

    /// <summary>A bit for each asserted pin.</summary>
    public uint Pins { get; init; }

    /// <summary>Redirection entries as the guest reads them.</summary>
    public ulong[] Table { get; init; } = [];
}
