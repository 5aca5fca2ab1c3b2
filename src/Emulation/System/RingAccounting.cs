using System.Diagnostics;
using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

/// <summary>Where a transfer of control started.</summary>
internal readonly record struct RingMark(ulong Rip, byte Ring, CpuMode Mode);

// Counting and recording of ring transitions. Counters are kept always; events only while somebody traces.
public sealed unsafe partial class SoftVcpu
{
    private static readonly double s_nanosecondsPerTimestamp = 1e9 / Stopwatch.Frequency;

    /// <summary>Ring that time is being charged to, and since when. (Instructions are counted by ring in the main loop.)</summary>
    private byte _chargedRing;
    private ulong _chargedSince;

    /// <summary>By what time is measured during a <see cref="Run"/>: the host's TSC, or the system's clock (null).</summary>
    private HostTsc? _ringClock;
    private double _nanosecondsPerTick;

    /// <summary>Nanoseconds per TSC tick, 32.32 fixed point.</summary>
    private ulong _nanosecondsPerTscTick;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal RingMark MarkRing() => new(S->Rip, GuestRing, S->Mode);

    /// <summary>Called when guest execution starts: <see cref="IVcpu.Run"/> entry.</summary>
    internal void BeginRingAccounting()
    {
        Counters->NanosecondsValid = 1;
        double rate = HostTsc.Instance?.MeasureNanosecondsPerTick() ?? 0;
        (_ringClock, _nanosecondsPerTick) = rate > 0 ? (HostTsc.Instance, rate) : (null, s_nanosecondsPerTimestamp);
        _chargedRing = GuestRing;
        _chargedSince = ReadRingClock();
    }

    private ulong ReadRingClock() => _ringClock?.Read() ?? (ulong)Stopwatch.GetTimestamp();

    /// <summary>Charges what has passed to the ring that ran: at transitions and at <see cref="IVcpu.Run"/>'s return.</summary>
    internal void ChargeRing()
    {
        ulong now = ReadRingClock();
        // The TSCs of two processors may differ by a little.
        Counters->Nanoseconds[_chargedRing & 3] += (ulong)(Math.Max(0, (long)(now - _chargedSince)) * _nanosecondsPerTick);
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
