using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// How the complete handlers reach their operands. Values travel zero-extended unless a name says otherwise.
internal static unsafe partial class IntegerHandlers
{
    private static readonly bool s_anyAlignmentAtomic = RuntimeInformation.ProcessArchitecture is Architecture.X64 or Architecture.X86;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong SignExtend(ulong v, int size) => size switch
    {
        1 => (ulong)(sbyte)v,
        2 => (ulong)(short)v,
        4 => (ulong)(int)v,
        _ => v,
    };

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static ulong ZeroExtend(ulong v, int size) => size switch
    {
        1 => (byte)v,
        2 => (ushort)v,
        4 => (uint)v,
        _ => v,
    };

    /// <summary>Reads a register by its byte offset.</summary>
    private static ulong Get(SoftVcpu cpu, ushort offset, int size)
    {
        byte* p = (byte*)cpu.S + offset;
        return size switch { 1 => *p, 2 => *(ushort*)p, 4 => *(uint*)p, _ => *(ulong*)p };
    }

    /// <summary>Writes a register by its byte offset; 32-bit writes clear the upper half.</summary>
    private static void Put(SoftVcpu cpu, ushort offset, int size, ulong v)
    {
        byte* p = (byte*)cpu.S + offset;
        switch (size)
        {
            case 1:
                *p = (byte)v;
                break;
            case 2:
                *(ushort*)p = (ushort)v;
                break;
            case 4:
                *(ulong*)p = (uint)v;
                break;
            default:
                *(ulong*)p = v;
                break;
        }
    }

    private static bool LoadSized(SoftVcpu cpu, SegmentName seg, ulong offset, int size, out ulong v)
    {
        bool ok;
        switch (size)
        {
            case 1:
                ok = cpu.Load(seg, offset, out byte b);
                v = b;
                return ok;
            case 2:
                ok = cpu.Load(seg, offset, out ushort w);
                v = w;
                return ok;
            case 4:
                ok = cpu.Load(seg, offset, out uint d);
                v = d;
                return ok;
            default:
                return cpu.Load(seg, offset, out v);
        }
    }

    private static bool StoreSized(SoftVcpu cpu, SegmentName seg, ulong offset, int size, ulong v) => size switch
    {
        1 => cpu.Store(seg, offset, (byte)v),
        2 => cpu.Store(seg, offset, (ushort)v),
        4 => cpu.Store(seg, offset, (uint)v),
        _ => cpu.Store(seg, offset, v),
    };

    private static bool ReadRm(SoftVcpu cpu, Op* op, int size, out ulong v)
    {
        if (op->IsMemory)
            return LoadSized(cpu, op->Seg, cpu.EffectiveAddress(op), size, out v);
        v = Get(cpu, op->RmOff, size);
        return true;
    }

    private static bool WriteRm(SoftVcpu cpu, Op* op, int size, ulong v)
    {
        if (op->IsMemory)
            return StoreSized(cpu, op->Seg, cpu.EffectiveAddress(op), size, v);
        Put(cpu, op->RmOff, size, v);
        return true;
    }

    private static ulong ReadAt(byte* p, int size) => size switch
    {
        1 => Volatile.Read(ref *p),
        2 => Unsafe.ReadUnaligned<ushort>(p),
        4 => Unsafe.ReadUnaligned<uint>(p),
        _ => Unsafe.ReadUnaligned<ulong>(p),
    };

    private static void WriteAt(byte* p, int size, ulong v)
    {
        switch (size)
        {
            case 1:
                *p = (byte)v;
                break;
            case 2:
                Unsafe.WriteUnaligned(p, (ushort)v);
                break;
            case 4:
                Unsafe.WriteUnaligned(p, (uint)v);
                break;
            default:
                Unsafe.WriteUnaligned(p, v);
                break;
        }
    }

    private static bool CompareExchangeAt(byte* p, int size, ulong expected, ulong v) => size switch
    {
        1 => Interlocked.CompareExchange(ref *p, (byte)v, (byte)expected) == (byte)expected,
        2 => Interlocked.CompareExchange(ref *(ushort*)p, (ushort)v, (ushort)expected) == (ushort)expected,
        4 => Interlocked.CompareExchange(ref *(uint*)p, (uint)v, (uint)expected) == (uint)expected,
        _ => Interlocked.CompareExchange(ref *(ulong*)p, v, expected) == expected,
    };

    /// <summary>Whether one host instruction can do a LOCKed access here. Over a cache line's end we stop the others rather than the host's memory bus.</summary>
    private static bool IsAtomicHere(byte* p, int size)
    {
        ulong at = (ulong)p;
        return s_anyAlignmentAtomic ? (at & 63) + (ulong)size <= 64 : (at & (ulong)(size - 1)) == 0;
    }

    /// <summary>The change of a read-modify-write instruction: the new value from the old, and the flags. May be called again with a newer value.</summary>
    private interface IChange
    {
        static abstract ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old);
    }

    /// <summary>Reads, changes and writes the r/m operand; atomically with LOCK (or <paramref name="locked"/>).</summary>
    private static bool Change<TChange>(SoftVcpu cpu, Op* op, int size, bool locked) where TChange : IChange
    {
        if (!op->IsMemory)
        {
            Put(cpu, op->RmOff, size, TChange.Apply(cpu, op, size, Get(cpu, op->RmOff, size)));
            return true;
        }

        return ChangeMemory<TChange>(cpu, op, size, locked, op->Seg, cpu.EffectiveAddress(op));
    }

    private static bool ChangeMemory<TChange>(SoftVcpu cpu, Op* op, int size, bool locked, SegmentName seg, ulong offset) where TChange : IChange
    {
        if (!cpu.Linear(seg, offset, size, write: true, out ulong linear))
            return false;
        byte* p = cpu.WritePointer(linear, seg, size, out bool ok);
        if (!ok)
            return false;
        if (p == null || (locked && !IsAtomicHere(p, size)))
            return ChangeByParts<TChange>(cpu, op, size, locked, seg, linear);
        if (!locked)
        {
            WriteAt(p, size, TChange.Apply(cpu, op, size, ReadAt(p, size)));
            return true;
        }

        FlagState before = FlagState.Of(cpu);
        for (;;)
        {
            ulong old = ReadAt(p, size);
            if (CompareExchangeAt(p, size, old, TChange.Apply(cpu, op, size, old)))
                return true;
            before.Restore(cpu);
        }
    }

    /// <summary>MMIO, or over a page's or cache line's end.</summary>
    private static bool ChangeByParts<TChange>(SoftVcpu cpu, Op* op, int size, bool locked, SegmentName seg, ulong linear) where TChange : IChange
    {
        if (locked)
            cpu.BeginExclusive();
        FlagState before = FlagState.Of(cpu);
        ulong value = 0;
        bool ok = cpu.ReadAt(linear, seg, &value, size);
        if (ok)
        {
            value = TChange.Apply(cpu, op, size, value);
            ok = cpu.WriteAt(linear, seg, &value, size);
            if (!ok)
                before.Restore(cpu);
        }

        if (locked)
            cpu.EndExclusive();
        return ok;
    }

    /// <summary>The lazy status flags as they are.</summary>
    private readonly struct FlagState(ulong result, ulong xor, ulong carry)
    {
        public static FlagState Of(SoftVcpu cpu) => new(cpu.N->FlagResult, cpu.N->FlagXor, cpu.N->FlagCarry);

        public void Restore(SoftVcpu cpu)
        {
            cpu.N->FlagResult = result;
            cpu.N->FlagXor = xor;
            cpu.N->FlagCarry = carry;
        }
    }
}
