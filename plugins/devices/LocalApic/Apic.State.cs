using VirtPS.Sdk;
using VirtPS.Sdk.Devices;

namespace VirtPS.Device.LocalApic;

/// <summary>Saved state, schema 1. Times in VM nanoseconds, the deadline in guest TSC ticks.</summary>
internal sealed record ApicState
{
    public ulong ApicBase { get; init; }
    public uint Ldr { get; init; }
    public uint Dfr { get; init; }
    public uint Svr { get; init; }
    public uint Esr { get; init; }
    public uint EsrPending { get; init; }
    public uint IcrLow { get; init; }
    public uint IcrHigh { get; init; }
    public byte Tpr { get; init; }
    public uint[] Lvt { get; init; } = [];
    public ulong[] Irr { get; init; } = [];
    public ulong[] Isr { get; init; } = [];
    public ulong[] Tmr { get; init; } = [];

    /// <summary>INTR as LINT0 last saw it.</summary>
    public bool Lint0 { get; init; }
    public bool ExtIntMessage { get; init; }
    public uint InitialCount { get; init; }
    public uint DivideConfiguration { get; init; }
    public uint Count { get; init; }
    public ulong CountedFrom { get; init; }
    public ulong TscDeadline { get; init; }

    /// <summary>Messages posted and not yet taken in: vectors by trigger mode, and the other kinds.</summary>
    public ulong[] PostedEdge { get; init; } = [];
    public ulong[] PostedLevel { get; init; } = [];
    public uint PostedOther { get; init; }
}

internal sealed partial class Apic
{
    public DeviceState Save() => DeviceState.From(TypeId, Schema, new ApicState
    {
        ApicBase = _apicBase,
        Ldr = _ldr,
        Dfr = _dfr,
        Svr = _svr,
        Esr = _esr,
        EsrPending = _esrPending,
        IcrLow = _icrLow,
        IcrHigh = _icrHigh,
        Tpr = _tpr,
        Lvt = [.. _lvt],
        Irr = _irr.Save(),
        Isr = _isr.Save(),
        Tmr = _tmr.Save(),
        Lint0 = _lint0,
        ExtIntMessage = _extIntMessage,
        InitialCount = _initialCount,
        DivideConfiguration = _divideConfiguration,
        Count = _count,
        CountedFrom = _countedFrom,
        TscDeadline = _tscDeadline,
        PostedEdge = [.. _postedEdge],
        PostedLevel = [.. _postedLevel],
        PostedOther = _postedOther,
    });

    public void Restore(DeviceState state)
    {
        ApicState s = state.Read<ApicState>(TypeId, Schema);
        if (s.Lvt.Length != Lvt.Count || ((ulong[][])[s.Irr, s.Isr, s.Tmr, s.PostedEdge, s.PostedLevel]).Any(a => a.Length != 4))
            throw new VirtException("DeviceStateInvalid", $"Saved state of '{TypeId}' has register files of the wrong length.");
        (_apicBase, _ldr, _dfr, _svr, _esr, _esrPending) = (s.ApicBase, s.Ldr, s.Dfr, s.Svr, s.Esr, s.EsrPending);
        (_icrLow, _icrHigh, _tpr, _lint0, _extIntMessage) = (s.IcrLow, s.IcrHigh, s.Tpr, s.Lint0, s.ExtIntMessage);
        s.Lvt.CopyTo(_lvt, 0);
        _irr.Restore(s.Irr);
        _isr.Restore(s.Isr);
        _tmr.Restore(s.Tmr);
        (_initialCount, _divideConfiguration, _count, _countedFrom, _tscDeadline) =
            (s.InitialCount, s.DivideConfiguration, s.Count, s.CountedFrom, s.TscDeadline);
        s.PostedEdge.CopyTo(_postedEdge, 0);
        s.PostedLevel.CopyTo(_postedLevel, 0);
        _postedOther = s.PostedOther;
    }
}
