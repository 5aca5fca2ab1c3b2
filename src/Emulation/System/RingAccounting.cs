using System.Diagnostics;
using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

/// <summary>Where a transfer of control started.</summary>
internal readonly record struct RingMark(ulong Rip, byte Ring, CpuMode Mode);

// Counting and recording of ring transitions. Counters are kept always; events only while somebody traces.
public sealed unsafe partial class SoftVcpu
{
    private static readonly double s_nanosecondsPerTick = 1e9 / Stopwatch.Frequency;

    /// <summary>Ring that time is being charged to, and since when. (The main loop counts instructions by ring itself.)</summary>
    private byte _chargedRing;
    private long _chargedSince;

    /// <summary>Nanoseconds per TSC tick, 32.32 fixed point.</summary>
    private ulong _nanosecondsPerTscTick;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal RingMark MarkRing() => new(S->Rip, GuestRing, S->Mode);

    /// <summary>Called when guest execution starts: <see cref="IVcpu.Run"/> entry.</summary>
    internal void BeginRingAccounting()
    {
        Counters->NanosecondsValid = 1;
        _chargedRing = GuestRing;
        _chargedSince = Stopwatch.GetTimestamp();
    }

    /// <summary>Charges what has passed to the ring that ran: at transitions and at <see cref="IVcpu.Run"/>'s return.</summary>
    internal void ChargeRing()
    {
        long now = Stopwatch.GetTimestamp();
        Counters->Nanoseconds[_chargedRing & 3] += (ulong)((now - _chargedSince) * s_nanosecondsPerTick);
        _chargedSince = now;
        _chargedRing = GuestRing;
    }

    /// <summary>A transfer of control has been carried out: CPL, mode and RIP are the new ones.</summary>
    internal void RecordTransfer(in RingMark from, RingCause cause, int vector, ulong detail)
    {
        bool changed = from.Ring != GuestRing;
        if (changed)
        {
            Counters->Transitions[(int)cause]++;
            ChargeRing();
        }
        else
        {
            Counters->SameRing[(int)cause]++;
        }

        RingEventBuffer? trace = Trace;
        if (trace != null && (changed || trace.IncludeSameRing))
            Write(trace, from, cause, vector, detail);
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private void Write(RingEventBuffer trace, in RingMark from, RingCause cause, int vector, ulong detail, ulong? second = null)
    {
        ulong machineTsc = Host.ReadMachineTsc();
        if (_nanosecondsPerTscTick == 0)
            _nanosecondsPerTscTick = (ulong)(((UInt128)1_000_000_000 << 32) / Math.Max(1, Partition.Options.TscFrequency));
        trace.Write(new RingEvent
        {
            Tsc = machineTsc + S->TscOffset,
            FromRip = from.Rip,
            ToRip = second ?? S->Rip,
            Detail = detail,
            Nanoseconds = (ulong)(((UInt128)machineTsc * _nanosecondsPerTscTick) >> 32),
            Vector = (ushort)vector,
            Cause = cause,
            FromRing = from.Ring,
            ToRing = cause == RingCause.Hypercall ? (byte)0xFF : GuestRing,
            FromMode = from.Mode,
            ToMode = S->Mode,
            Vcpu = (byte)Index,
        });
    }
}
