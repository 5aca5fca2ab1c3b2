using System.Buffers.Binary;

namespace VirtPS.Hypercall.Tests;

// Calls as a kernel makes them, by their numbers (xen.h).
internal sealed partial class CallGenerator
{
    private static void Put64(Span<byte> slot, int offset, ulong value) => BinaryPrimitives.WriteUInt64LittleEndian(slot[offset..], value);

    private static void Put32(Span<byte> slot, int offset, uint value) => BinaryPrimitives.WriteUInt32LittleEndian(slot[offset..], value);

    private static void Put16(Span<byte> slot, int offset, ushort value) => BinaryPrimitives.WriteUInt16LittleEndian(slot[offset..], value);

    private void NearlyRight()
    {
        switch (_random.Next(30))
        {
            case 0 or 1 or 2 or 3 or 4:
                MmuUpdate();
                break;
            case 5 or 6 or 7:
                Emit(14, Mostly(VictimAddress(_random.Next(FuzzMap.VictimPages))), Mostly(Entry(Frame())), Mostly((ulong)_random.Next(8)));
                break;
            case 8 or 9 or 10 or 11:
                MmuExtended();
                break;
            case 12:
                Tables();
                break;
            case 13:
                MemoryOperation();
                break;
            case 14:
                Multicall();
                break;
            case 15 or 16:
                Processor();
                break;
            case 17:
                Emit(17, (ulong)_random.Next(12), Mostly(SlotAddress));
                break;
            case 18:
                Emit(18, Mostly(0), Mostly((ulong)_random.Next(64)), Mostly(SlotAddress));
                break;
            case 19 or 20:
                Grants();
                break;
            case 21:
                Return();
                break;
            case 22 or 23:
                VcpuOperation();
                break;
            case 24:
                Schedule();
                break;
            case 25 or 26 or 27:
                Events();
                break;
            case 28:
                TrapsAndCallbacks();
                break;
            default:
                Emit(33, Mostly((ulong)_random.Next(30)), Mostly(SlotAddress));
                break;
        }
    }

    private void MmuUpdate()
    {
        int count = _random.Next(1, 9);
        Span<byte> slot = Slot;
        for (int i = 0; i < count; i++)
        {
            ulong table = Chance(3) ? _random.Next(2) == 0 ? (ulong)_random.NextInt64((long)_worldTables) + _worldRoot : Frame() : Victim();
            Put64(slot, i * 16, (table << 12) | (ulong)(uint)(_random.Next(512) * 8) | (Chance(6) ? (ulong)_random.Next(8) : 0ul));
            Put64(slot, (i * 16) + 8, Chance(4) ? Value() : Entry(Frame()));
        }

        Emit(1, Mostly(SlotAddress), Mostly((uint)count | (Chance(20) ? 0x8000_0000ul : 0ul)), Chance(2) ? 0 : Mostly(SlotAddress + 248), Mostly(Self));
    }

    private void MmuExtended()
    {
        int count = _random.Next(1, 4);
        Span<byte> slot = Slot;
        for (int i = 0; i < count; i++)
        {
            uint command = (uint)(Chance(2) ? _random.Next(5) : _random.Next(20));
            Put32(slot, i * 24, command);
            // A new root must map what runs, or the guest ends here: mostly the one that does.
            Put64(slot, (i * 24) + 8, command switch
            {
                5 => Chance(20) ? Frame() : _worldRoot,
                7 or 9 or 11 or 13 => Address(),
                15 => Chance(30) ? 0 : Chance(2) ? _worldRoot : Frame(),
                _ => Frame(),
            });
            Put64(slot, (i * 24) + 16, command == 13 ? (ulong)_random.Next(2000) : Chance(2) ? SlotAddress + 200 : Value());
        }

        Emit(26, Mostly(SlotAddress), Mostly((ulong)count), Chance(2) ? 0 : Mostly(SlotAddress + 248), Mostly(Self));
    }

    /// <summary>Descriptor tables and descriptors.</summary>
    private void Tables()
    {
        if (Chance(2))
        {
            Span<byte> slot = Slot;
            for (int i = 0; i < 14; i++)
                Put64(slot, i * 8, Frame());
            Emit(2, Mostly(SlotAddress), Mostly((ulong)_random.Next(7200)));
            return;
        }

        ulong[] good = [0, 0x00AFFB000000FFFF, 0x00CFF3000000FFFF, 0x00CFFA000000FFFF, 0x0000890000000000];
        Emit(10, Mostly((Frame() << 12) + (ulong)(_random.Next(512) * 8)), Mostly(good[_random.Next(good.Length)]));
    }

    private void MemoryOperation()
    {
        Span<byte> slot = Slot;
        uint count = (uint)_random.Next(4);
        Put64(slot, 0, Chance(4) ? Address() : SlotAddress + 64);
        Put64(slot, 8, Chance(8) ? Value() : (ulong)count);
        Put32(slot, 16, Chance(4) ? (uint)_random.Next(64) : 0);
        Put16(slot, 24, (ushort)Mostly(Self));
        for (int i = 0; i < 8; i++)
            Put64(slot, 64 + (i * 8), Frame());
        // Giving RAM back is for the few: what is gone does not come again by itself.
        Emit(12, Mostly(Chance(8) ? 1ul : (ulong)_random.Next(2, 28)) | (Chance(10) ? (ulong)_random.Next(8) << 6 : 0), Mostly(SlotAddress));
    }

    private void Multicall()
    {
        int count = _random.Next(1, 4);
        Span<byte> slot = Slot;
        for (int i = 0; i < count; i++)
        {
            ulong number = (ulong)_random.Next(41);
            Put64(slot, i * 64, number is 29 or 23 ? 14 : number);
            for (int a = 0; a < 6; a++)
                Put64(slot, (i * 64) + 16 + (a * 8), Value());
        }

        Emit(13, Mostly(SlotAddress), Mostly((ulong)count));
    }

    /// <summary>Stack, debug registers, segment bases, task switched, assists, timer.</summary>
    private void Processor()
    {
        switch (_random.Next(7))
        {
            case 0:
                Emit(3, Mostly(0xE02B), Chance(3) ? Address() : FuzzMap.Linear(FuzzMap.StackTopOf(vcpu)));
                break;
            case 1:
                Emit(5, Value());
                break;
            case 2:
                Emit(8, (ulong)_random.Next(9), Value());
                break;
            case 3:
                Emit(9, (ulong)_random.Next(9));
                break;
            case 4:
                Emit(25, (ulong)_random.Next(5), Chance(2) ? Address() : Value());
                break;
            case 5:
                Emit(21, (ulong)_random.Next(3), (ulong)_random.Next(8));
                break;
            default:
                Emit(15, Chance(2) ? 0 : (ulong)_random.Next());
                break;
        }
    }

    private void Grants()
    {
        Span<byte> slot = Slot;
        FillSlot();
        Put16(slot, 0, (ushort)Mostly(Self));
        Put32(slot, 4, (uint)_random.Next(40));
        Put64(slot, 16, Chance(4) ? Address() : SlotAddress + 64);
        Emit(20, Mostly((ulong)_random.Next(13)), Mostly(SlotAddress), Mostly((ulong)_random.Next(3)));
    }

    /// <summary>A return to the kernel, to a program, or to nowhere.</summary>
    private void Return()
    {
        Span<byte> slot = Slot;
        bool program = Chance(2);
        for (int i = 0; i < 3; i++)
            Put64(slot, i * 8, Value());
        Put64(slot, 24, Chance(2) ? 0ul : 0x100ul);
        Put64(slot, 32, Chance(4) ? Address() : program ? FuzzMap.Linear(FuzzMap.UserText) : _world.Guest.TrapHandler(vcpu));
        Put64(slot, 40, Seldom(program ? 0xE033ul : 0xE030ul));
        Put64(slot, 48, Chance(6) ? Value() : 0x202ul & ~(Chance(3) ? 0x200ul : 0));
        Put64(slot, 56, Chance(50) ? Address() : FuzzMap.Linear(FuzzMap.StackTopOf(vcpu)));
        Put64(slot, 64, Seldom(program ? 0xE02Bul : 0xE028ul));
        EmitAt(23, Chance(400) ? Address() : SlotAddress, Value());
    }

    private void VcpuOperation()
    {
        Span<byte> slot = Slot;
        ulong command = (ulong)_random.Next(14);
        switch (command)
        {
            case 0:
                // The context is a victim page and what follows it: 5168 bytes.
                Emit(24, 0, Mostly((ulong)_random.Next(FuzzMap.Vcpus)), Mostly(VictimAddress(_random.Next(FuzzMap.VictimPages - 2))));
                return;
            case 2:
                // One's own end ends the run, for it has no other processor to be brought up by.
                Emit(24, 2, Chance(50) ? (ulong)vcpu : (ulong)_random.Next(2, 4), 0);
                return;
            case 5 or 13:
                Put64(slot, 0, Chance(3) ? Address() : SlotAddress + 64);
                break;
            case 8:
                Put64(slot, 0, Chance(2) ? (ulong)_random.NextInt64(10_000_000_000) : Value());
                Put32(slot, 8, (uint)_random.Next(4));
                break;
            case 10:
                Put64(slot, 0, Frame());
                Put32(slot, 8, (uint)(Chance(2) ? _random.Next(64) * 64 : _random.Next()));
                break;
            default:
                FillSlot();
                break;
        }

        Emit(24, Mostly(command), Mostly((ulong)_random.Next(3)), Mostly(SlotAddress));
    }

    private void Schedule()
    {
        Span<byte> slot = Slot;
        switch (_random.Next(200))
        {
            case 0:
                Put32(slot, 0, (uint)_random.Next(6));
                Emit(29, 2, SlotAddress);
                break;
            case < 60:
                // A wait that ends by its time.
                Put64(slot, 0, Chance(3) ? Address() : SlotAddress + 64);
                Put32(slot, 8, (uint)_random.Next(4));
                Put64(slot, 16, (ulong)_random.Next(1, 1000));
                Emit(29, 3, Mostly(SlotAddress));
                break;
            case < 120:
                Emit(29, 0, Value());
                break;
            default:
                Emit(29, Chance(2) ? 7ul : (ulong)_random.Next(4, 20), Mostly(SlotAddress));
                break;
        }
    }

    private void BindPort()
    {
        Span<byte> slot = Slot;
        Put32(slot, 0, (uint)_random.Next(2));
        Put32(slot, 4, (uint)vcpu);
        Emit(32, _random.Next(3) switch { 0 => 1ul, 1 => 7ul, _ => 6ul }, SlotAddress);
    }

    private void Events()
    {
        Span<byte> slot = Slot;
        ulong command = (ulong)_random.Next(14);
        FillSlot();
        if (command is 1)
            (_, _) = (Set(slot, 0, (uint)_random.Next(26)), Set(slot, 4, (uint)_random.Next(3)));
        else if (command is 6)
            (Slot[0], Slot[1]) = (0xF0, 0x7F);
        else if (!Chance(6))
            (_, _) = (Set(slot, 0, (uint)_random.Next(24)), Set(slot, 4, (uint)_random.Next(3)));
        Emit(32, Mostly(command), Mostly(SlotAddress));

        static int Set(Span<byte> at, int offset, uint value)
        {
            Put32(at, offset, value);
            return 0;
        }
    }

    private void TrapsAndCallbacks()
    {
        Span<byte> slot = Slot;
        if (Chance(2))
        {
            for (int i = 0; i < 8; i++)
            {
                (slot[i * 16], slot[(i * 16) + 1]) = ((byte)_random.Next(256), (byte)_random.Next(8));
                Put16(slot, (i * 16) + 2, (ushort)Mostly(0xE033));
                Put64(slot, (i * 16) + 8, Chance(3) ? Address() : Chance(8) ? 0 : _world.Guest.TrapHandler(vcpu));
            }

            Emit(0, Mostly(SlotAddress));
            return;
        }

        Put16(slot, 0, (ushort)_random.Next(9));
        Put16(slot, 2, (ushort)_random.Next(4));
        Put64(slot, 8, Chance(6) ? Address() : _world.Guest.TrapHandler(vcpu));
        Emit(30, Mostly((ulong)_random.Next(3)), Mostly(SlotAddress));
    }

    /// <summary>A page becomes a table as a kernel makes one: filled, taken out of sight, pinned, hung into another; then used, and given back.</summary>
    private void Sequence()
    {
        int index = _random.Next(FuzzMap.VictimPages);
        ulong frame = (FuzzMap.Victims >> 12) + (ulong)index, linear = VictimAddress(index);
        int level = _random.Next(1, 5);
        for (int i = 0; i < _random.Next(6); i++)
            Emit(FuzzMap.Poke, linear + (ulong)(_random.Next(512) * 8), Entry(Chance(6) ? Frame() : Victim()));
        Emit(14, linear, (frame << 12) | (Chance(5) ? 0x23ul : 0x21), 2);
        One(26, (uint)(level - 1), frame);
        if (Chance(2))
            Emit(FuzzMap.Poke + (ulong)_random.Next(7), linear + (ulong)(_random.Next(512) * 8), Entry(Frame()));
        Span<byte> slot = Slot;
        Put64(slot, 0, (Victim() << 12) + (ulong)(_random.Next(512) * 8));
        Put64(slot, 8, (frame << 12) | 0x67);
        Emit(1, SlotAddress, 1, 0, Self);
        if (Chance(3))
            One(26, 15, frame);
        if (!Chance(4))
        {
            One(26, 15, _worldRoot);
            One(26, 4, frame);
            Emit(14, linear, (frame << 12) | 0x23, 2);
        }

        void One(ulong number, uint command, ulong argument)
        {
            Span<byte> at = Slot;
            Put32(at, 0, command);
            Put64(at, 8, argument);
            Emit(number, SlotAddress, 1, 0, Self);
        }
    }
}
