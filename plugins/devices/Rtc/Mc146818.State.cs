using VirtPS.Sdk;
using VirtPS.Sdk.Devices;

namespace VirtPS.Device.Rtc;

/// <summary>Saved state, schema 1. VM times in nanoseconds; calendar times in seconds since 0001-01-01.</summary>
internal sealed record Mc146818State
{
    public const string TypeId = "virtps.rtc/mc146818";
    public const int Schema = 1;

    /// <summary>As written to port 0x70, NMI mask included.</summary>
    public byte Index { get; set; }
    public byte A { get; set; }
    public byte B { get; set; }

    /// <summary>PF, AF, UF.</summary>
    public byte C { get; set; }

    /// <summary>Calendar time since <see cref="SecondAt"/>.</summary>
    public long Seconds { get; set; }

    /// <summary>VM time of a second boundary; negative when it was before power-on.</summary>
    public long SecondAt { get; set; }

    /// <summary>Days that the guest's day of the week is ahead of the calendar's.</summary>
    public int DayShift { get; set; }

    /// <summary>The time bytes while time stands still (SET, or divider in reset); null while it runs.</summary>
    public byte[]? Frozen { get; set; }

    /// <summary>Up to where the flags account for time: VM time, and calendar time.</summary>
    public long EvaluatedAt { get; set; }
    public long EvaluatedSeconds { get; set; }

    /// <summary>RAM at save; the running device keeps it apart.</summary>
    public byte[]? Ram { get; set; }
}

internal sealed partial class Mc146818
{
    public DeviceState Save() => DeviceState.From(Mc146818State.TypeId, Mc146818State.Schema, _s with { Ram = [.. _ram] });

    public void Restore(DeviceState state)
    {
        Mc146818State s = state.Read<Mc146818State>(Mc146818State.TypeId, Mc146818State.Schema);
        if (s.Ram is not { Length: Cmos.Size } || s.Frozen is not (null or { Length: TimeFormat.ByteCount }))
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{Mc146818State.TypeId}' has RAM or time bytes of the wrong length.");
        s.Ram.CopyTo(_ram, 0);
        _s = s with { Ram = null };
    }
}
