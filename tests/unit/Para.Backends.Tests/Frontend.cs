using System.Buffers.Binary;
using VirtPS.Sdk;
using VirtPS.Sdk.Backends;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Memory;
using VirtPS.Strategy.Para.Block;

namespace VirtPS.Para.Backends.Tests;

/// <summary>A machine with one disk, and a guest's blkfront that the test plays.</summary>
internal sealed class Frontend : IBackendHost, IGrantAccess, IDisposable
{
    public const string Folder = "/local/domain/1/device/vbd/51712", Backend = "/local/domain/0/backend/vbd/1/51712";

    private const uint FirstData = 100;

    private readonly TestMachine _machine = new() { DeviceName = "disk0" };
    private readonly Dictionary<uint, (ulong Gpa, bool Writable)> _grants = [];
    private readonly List<uint> _mapped = [];
    private FakeChannel? _channel;
    private int _ringPages = 1;
    private uint _requested;

    public Frontend(MemoryDisk? disk = null, BlockSpec? spec = null)
    {
        Disk = disk ?? new MemoryDisk();
        _machine.Memory.Add(new MemorySlot("ram", 0, new TestMemory(4 << 20)));
        Store.Write("/local/domain/1", "", new StorePermission('n', 0), new StorePermission('r', 1));
        Guest = new StoreClient(Store, 1);
        for (uint i = 0; i < 64; i++)
            _grants[FirstData + i] = (0x100000 + (i * 4096), true);
        Device = new BlockDevice(spec ?? new BlockSpec(), "xvda", _machine, this, Disk);
        Device.Reset(ResetKind.Cold);
    }

    public MemoryDisk Disk { get; }

    public BlockDevice Device { get; }

    public StoreService Store { get; } = new();

    public StoreClient Guest { get; }

    public int Domain => 1;

    public IGrantAccess Grants => this;

    public int Notified { get; private set; }

    public bool IsBound => _channel is { Closed: false };

    public IReadOnlyList<uint> Mapped => _mapped;

    public string BackendState => Store.Read($"{Backend}/state")!;

    /// <summary>The grant of the n-th data page.</summary>
    public static uint Data(int n) => FirstData + (uint)n;

    public void SetGrant(uint reference, ulong gpa, bool writable) => _grants[reference] = (gpa, writable);

    public void Revoke(uint reference) => _grants.Remove(reference);

    public void Connect(int order = 0)
    {
        _ringPages = 1 << order;
        _requested = 0;
        for (int i = 0; i < _ringPages; i++)
        {
            _grants[(uint)(8 + i)] = (0x1000ul * (ulong)(i + 1), true);
            Page(i).Write(0, new byte[4096]);
        }

        Page(0).Write32(4, 1);
        Page(0).Write32(12, 1);
        if (order == 0)
        {
            Say("ring-ref", "8");
        }
        else
        {
            Say("ring-page-order", $"{order}");
            for (int i = 0; i < _ringPages; i++)
                Say($"ring-ref{i}", $"{8 + i}");
        }

        Say("event-channel", "5");
        Say("protocol", "x86_64-abi");
        Say("state", "3");
    }

    public void Say(string key, string value) => Assert.Equal("OK\0", Guest.Write($"{Folder}/{key}", value));

    public void WriteData(int page, int offset, ReadOnlySpan<byte> data) => _machine.Memory.TryWrite(_grants[Data(page)].Gpa + (uint)offset, data);

    public byte[] ReadData(int page, int offset, int length)
    {
        byte[] data = new byte[length];
        _machine.Memory.TryRead(_grants[Data(page)].Gpa + (uint)offset, data);
        return data;
    }

    /// <summary>Puts a request into the ring without telling.</summary>
    public void Put(ReadOnlySpan<byte> entry)
    {
        WriteRing(64 + ((int)(_requested & ((uint)BlockAbi.EntriesIn(_ringPages) - 1)) * 112), entry);
        Page(0).Write32(0, ++_requested);
    }

    public void SetProducer(uint value) => Page(0).Write32(0, value);

    public void SetResponseEvent(uint value) => Page(0).Write32(12, value);

    /// <summary>Sends the event, and lets the disk and the machine finish.</summary>
    public void Kick()
    {
        _channel?.Notified();
        Settle();
    }

    public void Settle()
    {
        for (int i = 0; i < 50; i++)
        {
            _machine.RunPosted();
            if (Disk.IsIdle)
            {
                _machine.RunPosted();
                if (Disk.IsIdle)
                    return;
            }

            Thread.Sleep(1);
        }
    }

    /// <summary>One request and its answer.</summary>
    public short Ask(ReadOnlySpan<byte> entry)
    {
        uint before = Page(0).Read32(8);
        Put(entry);
        Kick();
        Assert.Equal(before + 1, Page(0).Read32(8));
        return Response(before).Status;
    }

    public uint Responses => Page(0).Read32(8);

    public (ulong Id, byte Operation, short Status) Response(uint index)
    {
        byte[] entry = new byte[16];
        ReadRing(64 + ((int)(index & ((uint)BlockAbi.EntriesIn(_ringPages) - 1)) * 112), entry);
        return (BinaryPrimitives.ReadUInt64LittleEndian(entry), entry[8], BinaryPrimitives.ReadInt16LittleEndian(entry.AsSpan(10)));
    }

    public static byte[] Request(byte operation, ulong sector, params (uint Reference, int First, int Last)[] segments)
    {
        byte[] entry = new byte[112];
        entry[0] = operation;
        entry[1] = (byte)segments.Length;
        BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(8), 0xABCD_0000 + sector);
        BinaryPrimitives.WriteUInt64LittleEndian(entry.AsSpan(16), sector);
        for (int i = 0; i < Math.Min(segments.Length, 11); i++)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(entry.AsSpan(24 + (i * 8)), segments[i].Reference);
            (entry[28 + (i * 8)], entry[29 + (i * 8)]) = ((byte)segments[i].First, (byte)segments[i].Last);
        }

        return entry;
    }

    public void Dispose()
    {
        Device.Dispose();
        _machine.Memory.Dispose();
    }

    IBackendChannel? IBackendHost.Bind(uint port, Action notified) => port == 5 && !IsBound ? _channel = new FakeChannel(this, notified) : null;

    bool IGrantAccess.TryRead(uint reference, int offset, Span<byte> destination) =>
        _grants.TryGetValue(reference, out (ulong Gpa, bool Writable) g) && _machine.Memory.TryRead(g.Gpa + (uint)offset, destination);

    bool IGrantAccess.TryWrite(uint reference, int offset, ReadOnlySpan<byte> source) =>
        _grants.TryGetValue(reference, out (ulong Gpa, bool Writable) g) && g.Writable && _machine.Memory.TryWrite(g.Gpa + (uint)offset, source);

    bool IGrantAccess.TryMap(uint reference, out SharedPage page)
    {
        page = default;
        if (!_grants.TryGetValue(reference, out (ulong Gpa, bool Writable) g) || !g.Writable)
            return false;
        page = new SharedPage(_machine.Memory, g.Gpa);
        _mapped.Add(reference);
        return true;
    }

    void IGrantAccess.Unmap(uint reference) => Assert.True(_mapped.Remove(reference));

    private SharedPage Page(int index) => new(_machine.Memory, 0x1000ul * (ulong)(index + 1));

    // The test's ring pages lie one after the other.
    private void WriteRing(int at, ReadOnlySpan<byte> bytes) => _machine.Memory.TryWrite(0x1000ul + (uint)at, bytes);

    private void ReadRing(int at, Span<byte> bytes) => _machine.Memory.TryRead(0x1000ul + (uint)at, bytes);

    private sealed class FakeChannel(Frontend owner, Action notified) : IBackendChannel
    {
        public bool Closed { get; private set; }

        public void Notified()
        {
            if (!Closed)
                notified();
        }

        public void Notify() => owner.Notified++;

        public void Close() => Closed = true;
    }
}

/// <summary>A disk in memory that can be told to fail, and to wait.</summary>
internal sealed class MemoryDisk(int length = 1 << 20, bool readOnly = false) : IBlockBackend
{
    private int _running;

    public byte[] Content { get; } = new byte[length];

    public BlockGeometry Geometry { get; } = new((ulong)length, 512, 4096, readOnly, !readOnly);

    public BlockCounters Counters { get; } = new();

    public BlockFault? Fault { get; set; }

    /// <summary>Requests wait until it is set.</summary>
    public TaskCompletionSource? Gate { get; set; }

    public int Flushes { get; private set; }

    public bool Disposed { get; private set; }

    public bool IsIdle => Volatile.Read(ref _running) == 0;

    public ValueTask ReadAsync(ulong offset, Memory<byte> buffer, CancellationToken cancellation) =>
        RunAsync(offset, buffer.Length, write: false, () => Content.AsMemory((int)offset, buffer.Length).CopyTo(buffer));

    public ValueTask WriteAsync(ulong offset, ReadOnlyMemory<byte> buffer, bool durable, CancellationToken cancellation) =>
        RunAsync(offset, buffer.Length, write: true, () => buffer.CopyTo(Content.AsMemory((int)offset)));

    public ValueTask FlushAsync(CancellationToken cancellation) => RunAsync(0, 0, write: false, () => Flushes++);

    public ValueTask DiscardAsync(ulong offset, ulong length, bool zero, CancellationToken cancellation) =>
        RunAsync(offset, (long)length, write: true, () => Content.AsSpan((int)offset, (int)length).Clear());

    public ValueTask DisposeAsync()
    {
        Disposed = true;
        return default;
    }

    private async ValueTask RunAsync(ulong offset, long length, bool write, Action work)
    {
        Interlocked.Increment(ref _running);
        try
        {
            if (Gate is { } gate)
                await gate.Task.ConfigureAwait(false);
            if (Fault is { } fault)
                throw new BlockException(fault, "no");
            if (write && readOnly)
                throw new BlockException(BlockFault.ReadOnly, "no");
            if (offset > (ulong)Content.Length || (ulong)length > (ulong)Content.Length - offset)
                throw new BlockException(BlockFault.OutOfRange, "no");
            work();
        }
        finally
        {
            Interlocked.Decrement(ref _running);
        }
    }
}
