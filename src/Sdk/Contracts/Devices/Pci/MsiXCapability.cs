using System.Buffers.Binary;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Sdk.Devices.Pci;

/// <summary>MSI-X (PCI Local Bus 3.0 §6.8.2): table and pending bit array fill a memory BAR of their own. Under the device lock.</summary>
public sealed class MsiXCapability : PciCapability, IMmioDevice
{
    private const int Control = 2, Table = 4, PendingArray = 8, EntrySize = 16, EntryControl = 12;
    private const uint Enable = 1 << 15, FunctionMask = 1 << 14, EntryMasked = 1;

    private readonly int _bar;
    private readonly byte[] _table;
    private readonly ulong[] _pending;
    private readonly ulong _pendingOffset;

    /// <param name="vectors">1–2048.</param>
    /// <param name="bar">Index of the BAR that <see cref="PciFunction.AddMsiX"/> makes.</param>
    internal MsiXCapability(int vectors, int bar) : base(id: 0x11, length: 12)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(vectors, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(vectors, 2048);
        (VectorCount, _bar) = (vectors, bar);
        _table = new byte[vectors * EntrySize];
        _pending = new ulong[(vectors + 63) / 64];
        // Table and array on pages of their own, so that a guest can map them apart (§6.8.2, recommendation).
        _pendingOffset = ((ulong)_table.Length + 0xFFF) & ~0xFFFul;
        BarLength = System.Numerics.BitOperations.RoundUpToPowerOf2(_pendingOffset + (ulong)(_pending.Length * 8));
        MaskAll();
    }

    public int VectorCount { get; }

    public bool IsEnabled => (Function.GetConfig(Offset + Control, 2) & Enable) != 0;

    internal ulong BarLength { get; }

    private bool FunctionMasked => (Function.GetConfig(Offset + Control, 2) & FunctionMask) != 0;

    protected internal override void Initialize()
    {
        Function.SetInitial(Offset + Control, 2, (uint)(VectorCount - 1));
        Function.SetWritable(Offset + Control, 2, Enable | FunctionMask);
        Function.SetInitial(Offset + Table, 4, (uint)_bar);
        Function.SetInitial(Offset + PendingArray, 4, (uint)_pendingOffset | (uint)_bar);
    }

    /// <summary>Sends a vector's message; a masked one becomes pending. Nothing happens while MSI-X is disabled; without bus mastering the message is lost.</summary>
    public void Signal(int vector)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)vector, (uint)VectorCount, nameof(vector));
        if (!IsEnabled)
            return;
        if (FunctionMasked || IsMasked(vector))
            _pending[vector >> 6] |= 1ul << (vector & 63);
        else
            Send(vector);
    }

    private bool IsMasked(int vector) => (_table[(vector * EntrySize) + EntryControl] & EntryMasked) != 0;

    private void Send(int vector)
    {
        if (!Function.IsBusMaster)
            return;
        ReadOnlySpan<byte> entry = _table.AsSpan(vector * EntrySize, EntrySize);
        Function.MessageTarget.Send(new MsiMessage(BinaryPrimitives.ReadUInt64LittleEndian(entry), BinaryPrimitives.ReadUInt32LittleEndian(entry[8..])));
    }

    private void SendPending(int vector)
    {
        if (!IsEnabled || FunctionMasked || IsMasked(vector) || (_pending[vector >> 6] >> (vector & 63) & 1) == 0)
            return;
        _pending[vector >> 6] &= ~(1ul << (vector & 63));
        Send(vector);
    }

    protected internal override void Written(int offset, int size)
    {
        for (int vector = 0; vector < VectorCount; vector++)
            SendPending(vector);
    }

    /// <summary>The BAR: 32- or 64-bit aligned accesses only (§6.8.2); what is behind the table reads as zero.</summary>
    public ulong ReadMmio(ulong offset, int size)
    {
        Span<byte> bytes = stackalloc byte[8];
        for (int i = 0; i < size; i++)
            bytes[i] = ByteAt(offset + (ulong)i);
        return BinaryPrimitives.ReadUInt64LittleEndian(bytes);
    }

    private byte ByteAt(ulong offset)
    {
        if (offset < (ulong)_table.Length)
            return _table[offset];
        ulong bit = (offset - _pendingOffset) * 8;
        return offset >= _pendingOffset && bit < (ulong)VectorCount ? (byte)(_pending[bit >> 6] >> (int)(bit & 63)) : (byte)0;
    }

    public void WriteMmio(ulong offset, int size, ulong value)
    {
        if (offset + (ulong)size > (ulong)_table.Length || size < 4)
            return;
        for (int i = 0; i < size; i++)
        {
            int at = (int)offset + i;
            byte b = (byte)(value >> (8 * i));
            // Message address bits 1–0 are zero; of the vector control only the mask bit exists.
            _table[at] = (at & 15) switch
            {
                0 => (byte)(b & ~3),
                EntryControl => (byte)(b & EntryMasked),
                > EntryControl => 0,
                _ => b,
            };
        }

        SendPending((int)offset / EntrySize);
    }

    private void MaskAll()
    {
        Array.Clear(_table);
        for (int i = 0; i < VectorCount; i++)
            _table[(i * EntrySize) + EntryControl] = (byte)EntryMasked;
    }

    protected internal override void Reset()
    {
        MaskAll();
        Array.Clear(_pending);
    }

    protected internal override byte[] Save()
    {
        byte[] state = new byte[_table.Length + (_pending.Length * 8)];
        _table.CopyTo(state, 0);
        Buffer.BlockCopy(_pending, 0, state, _table.Length, _pending.Length * 8);
        return state;
    }

    protected internal override void Restore(byte[]? state)
    {
        if (state is null || state.Length != _table.Length + (_pending.Length * 8))
            throw new VirtException("DeviceStateInvalid", "The saved MSI-X table has another size.");
        state.AsSpan(0, _table.Length).CopyTo(_table);
        Buffer.BlockCopy(state, _table.Length, _pending, 0, _pending.Length * 8);
    }
}
