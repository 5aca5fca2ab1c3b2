using System.Buffers.Binary;

namespace VirtPS.Hypercall.Tests;

/// <summary>
/// Makes calls: most of them near to what a kernel would ask, with some arguments spoilt; some of interesting values alone; some of noise. The same seed makes the same calls.
/// </summary>
internal sealed partial class CallGenerator(int seed, FuzzWorld world, int vcpu)
{
    // What mmu_update, mmuext_op and the like say for "this domain".
    private const ulong Self = 0x7FF0;

    private readonly Random _random = new(seed);
    private readonly FuzzWorld _world = world;
    private readonly ulong _worldRoot = world.RootFrame, _worldTables = world.TableCount;
    private FuzzBatch _batch = new();
    private int _record;
    private bool _risky;

    public FuzzBatch Next()
    {
        _batch = new FuzzBatch();
        _record = 0;
        Repair();
        while (_record < FuzzMap.RecordsPerBatch)
        {
            switch (_random.Next(20))
            {
                case 0:
                    Sequence();
                    break;
                case 1:
                    Noise();
                    break;
                case 2 or 3 or 4:
                    Interesting();
                    break;
                case 5 or 6:
                    Touch();
                    break;
                default:
                    NearlyRight();
                    break;
            }

            // Without handlers and stacks the next fault would be the last.
            if (_risky)
                RepairHandlers();
        }

        return _batch;
    }

    /// <summary>Puts back what former calls may have spoilt, so that a guest lives long enough to do more.</summary>
    private void Repair()
    {
        RepairHandlers();
        Emit(21, 0, 2);
        Span<byte> slot = Slot;
        Put32(slot, 0, 15);
        Put64(slot, 8, _worldRoot);
        Emit(26, SlotAddress, 1, 0, Self);
        for (int i = 0; i < 4; i++)
            BindPort();
    }

    private void RepairHandlers()
    {
        Emit(0, FuzzMap.Linear(FuzzMap.TrapTableOf(vcpu)));
        Callback(0, _world.Guest.EventHandler(vcpu));
        Callback(1, _world.Guest.TrapHandler(vcpu));
        Callback(2, _world.Guest.TrapHandler(vcpu));
        Emit(3, 0xE02B, FuzzMap.Linear(FuzzMap.StackTopOf(vcpu)));
        _risky = false;

        void Callback(ushort type, ulong address)
        {
            Span<byte> slot = Slot;
            BinaryPrimitives.WriteUInt16LittleEndian(slot, type);
            BinaryPrimitives.WriteUInt64LittleEndian(slot[8..], address);
            Emit(30, 0, SlotAddress);
        }
    }

    private Span<byte> Slot => _record < FuzzMap.RecordsPerBatch ? _batch.Slots.AsSpan(_record * FuzzMap.SlotBytes, FuzzMap.SlotBytes) : new byte[FuzzMap.SlotBytes];

    private ulong SlotAddress => FuzzMap.Linear(FuzzMap.SlotOf(vcpu, Math.Min(_record, FuzzMap.RecordsPerBatch - 1)));

    private void Emit(ulong number, params ReadOnlySpan<ulong> arguments) => EmitAt(number, FuzzMap.Linear(FuzzMap.StackTopOf(vcpu)), arguments);

    private void EmitAt(ulong number, ulong stack, params ReadOnlySpan<ulong> arguments)
    {
        if (_record == FuzzMap.RecordsPerBatch)
            return;
        Span<byte> record = _batch.Records.AsSpan(_record * FuzzMap.RecordBytes, FuzzMap.RecordBytes);
        BinaryPrimitives.WriteUInt64LittleEndian(record, number);
        for (int i = 0; i < arguments.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(record[(8 + (i * 8))..], arguments[i]);
        // What never comes back was not accepted.
        BinaryPrimitives.WriteInt64LittleEndian(record[48..], -1);
        BinaryPrimitives.WriteUInt64LittleEndian(record[56..], stack);
        _record++;
        _risky |= number is 0 or 3 or 30;
    }

    private void Noise() =>
        EmitAt(Chance(2) ? (ulong)_random.Next(24, 64) : U64() >> _random.Next(64), Chance(100) ? Address() : FuzzMap.Linear(FuzzMap.StackTopOf(vcpu)), U64() >> _random.Next(64), U64() >> _random.Next(64), U64() >> _random.Next(64), U64() >> _random.Next(64), U64() >> _random.Next(64));

    private void Interesting()
    {
        FillSlot();
        ulong number = (ulong)_random.Next(44);
        // A stop, a sleep without end, or a return to nowhere would end the run: they have their own, rarer place.
        if (number is 29 or 23)
            number = 17;
        Emit(number, Value(), Value(), Value(), Value(), Value());
    }

    /// <summary>Reads, writes and calls of the guest's own: page tables by emulation, pages that have become read-only, nothing at all.</summary>
    private void Touch()
    {
        ulong number = FuzzMap.Poke + (ulong)_random.Next(8);
        ulong address = Chance(2) ? VictimAddress(_random.Next(FuzzMap.VictimPages)) + (ulong)(_random.Next(512) * 8) : Chance(2) ? TableAddress() : Address();
        if (Chance(10))
            address += (ulong)_random.Next(8);
        Emit(number, address, Chance(2) ? Entry(Frame()) : Value());
    }

    private void FillSlot()
    {
        Span<byte> slot = Slot;
        for (int i = 0; i < slot.Length; i += 8)
            BinaryPrimitives.WriteUInt64LittleEndian(slot[i..], Chance(3) ? (ulong)_random.Next(16) : Value());
    }

    private ulong Value() => _random.Next(9) switch
    {
        0 => 0,
        1 => (ulong)_random.Next(16),
        2 => SlotAddress,
        3 => Address(),
        4 => Frame(),
        5 => Frame() << 12 | (uint)_random.Next(4096),
        6 => Self,
        7 => 1ul << _random.Next(64),
        _ => U64() >> _random.Next(64),
    };

    /// <summary>A frame's number: mostly one that may be anything, now and then one that must not.</summary>
    private ulong Frame() => _random.Next(16) switch
    {
        < 9 => (FuzzMap.Victims >> 12) + (ulong)_random.Next(FuzzMap.VictimPages),
        9 or 10 => _worldRoot + (ulong)_random.NextInt64((long)_worldTables),
        11 => _world.SharedInfo + (ulong)_random.Next(40),
        12 => (ulong)_random.NextInt64((long)_world.RamFrames),
        13 => _world.RamFrames + (ulong)_random.Next(4),
        14 => Chance(2) ? _world.StoreFrame : _world.ConsoleFrame,
        _ => U64() >> _random.Next(12, 64),
    };

    private ulong Victim() => (FuzzMap.Victims >> 12) + (ulong)_random.Next(FuzzMap.VictimPages);

    private ulong Entry(ulong frame)
    {
        ulong flags = _random.Next(8) switch
        {
            0 => 0,
            1 or 2 => 0x21,
            3 or 4 => 0x23,
            5 or 6 => 0x67,
            _ => (uint)_random.Next(4096) | (Chance(3) ? 1ul << 63 : 0) | (Chance(6) ? U64() & 0x7FF0_0000_0000_0000 : 0),
        };
        return (frame << 12) | flags;
    }

    private static ulong VictimAddress(int index) => FuzzMap.Linear(FuzzMap.Victims + ((ulong)index * 4096));

    private ulong TableAddress() => FuzzMap.Linear((_worldRoot + (ulong)_random.NextInt64((long)_worldTables)) << 12) + (ulong)(_random.Next(512) * 8);

    private ulong Address() => _random.Next(10) switch
    {
        < 4 => VictimAddress(_random.Next(FuzzMap.VictimPages)) + (ulong)(Chance(2) ? 0 : _random.Next(4096)),
        4 => SlotAddress,
        5 => TableAddress(),
        6 => 0xFFFF_8000_0000_0000 + (U64() >> 24),
        7 => FuzzMap.Linear((ulong)_random.NextInt64((long)(_world.RamFrames << 12))),
        8 => U64() >> 17,
        _ => U64(),
    };

    private ulong U64() => (ulong)_random.NextInt64(long.MinValue, long.MaxValue);

    private bool Chance(int oneIn) => _random.Next(oneIn) == 0;

    /// <summary>For arguments whose loss ends the guest.</summary>
    private ulong Seldom(ulong right) => Chance(400) ? Value() : right;

    /// <summary>The argument as it should be, or now and then something else.</summary>
    private ulong Mostly(ulong right) => Chance(12) ? Value() : right;
}
