using VirtPS.Sdk;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Device.LocalApic;

/// <summary>Messages from the bus: the queue that other threads fill, destinations, LINT0, and sending.</summary>
internal sealed partial class Apic
{
    // The queue: a bit for each vector and trigger mode, merged as IRR would merge them; and one word for the rest. Lock-free.
    private readonly ulong[] _postedEdge = new ulong[4], _postedLevel = new ulong[4];
    private uint _postedOther;

    private const uint PostedNmi = 1, PostedInit = 2, PostedStartUp = 4, PostedExtInt = 8, PostedSmi = 16;
    private const int StartUpVectorShift = 8;

    public void Post(DeliveryMode mode, byte vector, bool level)
    {
        switch (mode)
        {
            case DeliveryMode.Fixed or DeliveryMode.LowestPriority:
                Interlocked.Or(ref (level ? _postedLevel : _postedEdge)[vector >> 6], 1ul << (vector & 63));
                break;
            case DeliveryMode.Nmi:
                Interlocked.Or(ref _postedOther, PostedNmi);
                break;
            case DeliveryMode.Init:
                // An INIT ends what a start-up message before it began.
                ChangePosted(p => (p & ~(PostedStartUp | (0xFFu << StartUpVectorShift))) | PostedInit);
                break;
            case DeliveryMode.StartUp:
                uint startUp = PostedStartUp | ((uint)vector << StartUpVectorShift);
                ChangePosted(p => (p & ~(0xFFu << StartUpVectorShift)) | startUp);
                break;
            case DeliveryMode.ExtInt:
                Interlocked.Or(ref _postedOther, PostedExtInt);
                break;
            case DeliveryMode.Smi:
                Interlocked.Or(ref _postedOther, PostedSmi);
                break;
            default:
                return;
        }

        _host.RequestProcess();
    }

    private void ChangePosted(Func<uint, uint> change)
    {
        uint seen = Volatile.Read(ref _postedOther);
        for (uint was; (was = Interlocked.CompareExchange(ref _postedOther, change(seen), seen)) != seen;)
            seen = was;
    }

    private void ClearPosted()
    {
        for (int i = 0; i < 4; i++)
        {
            Interlocked.Exchange(ref _postedEdge[i], 0);
            Interlocked.Exchange(ref _postedLevel[i], 0);
        }

        Interlocked.Exchange(ref _postedOther, 0);
    }

    private void TakePosted()
    {
        uint other = Interlocked.Exchange(ref _postedOther, 0);
        if ((other & PostedInit) != 0)
        {
            ResetRegisters();
            _host.Initialize();
        }

        TakeVectors(_postedEdge, level: false);
        TakeVectors(_postedLevel, level: true);
        if ((other & PostedStartUp) != 0)
            _host.StartUp((byte)(other >> StartUpVectorShift));
        if ((other & PostedNmi) != 0)
            _host.RaiseNmi();
        if ((other & PostedSmi) != 0 && _log.IsEnabled(LogLevel.Debug))
            _log.Write(LogLevel.Debug, "SMI dropped: there is no system management mode.");
        _extIntMessage |= (other & PostedExtInt) != 0;
    }

    private void TakeVectors(ulong[] posted, bool level)
    {
        for (int i = 0; i < 4; i++)
        {
            ulong bits = Volatile.Read(ref posted[i]) == 0 ? 0 : Interlocked.Exchange(ref posted[i], 0);
            for (; bits != 0; bits &= bits - 1)
                Accept((i * 64) + System.Numerics.BitOperations.TrailingZeroCount(bits), level);
        }
    }

    public bool MatchesDestination(uint destination, bool logical)
    {
        if (!HardwareEnabled)
            return false;
        bool x2 = X2Apic;
        if (destination == uint.MaxValue || (!x2 && destination == 0xFF))
            return true;
        if (!logical)
            return destination == ApicId;
        uint ldr = Volatile.Read(ref _ldr);
        if (x2)
            return destination >> 16 == ldr >> 16 && (destination & ldr & 0xFFFF) != 0;
        uint own = ldr >> 24;
        if (destination > 0xFF)
            return false;
        // §10.6.2.2: flat model is DFR 1111, cluster model 0000; cluster 15 is all clusters.
        return Volatile.Read(ref _dfr) >> 28 == 0xF
            ? (destination & own) != 0
            : (destination >> 4 == 0xF || destination >> 4 == own >> 4) && (destination & own & 0xF) != 0;
    }

    /// <summary>
    /// LINT0 in another mode than ExtINT: an edge of INTR, or its level, as a local interrupt (§10.5.1). Linux tries this when the IOAPIC's timer pin is dead.
    /// </summary>
    private void SampleLint0()
    {
        bool before = _lint0;
        _lint0 = _host.ExternalInterrupts is { IsAsserted: true };
        uint lvt = _lvt[Lvt.Lint0];
        if ((lvt & Lvt.Masked) != 0 || !_lint0)
            return;
        bool level = (lvt & Lvt.LevelTriggered) != 0;
        switch ((DeliveryMode)(lvt >> 8 & 7))
        {
            case DeliveryMode.Fixed when level && (lvt & Lvt.RemoteIrr) == 0:
                _lvt[Lvt.Lint0] |= Lvt.RemoteIrr;
                Accept((int)(lvt & 0xFF), level: true);
                break;
            case DeliveryMode.Fixed when !level && !before:
                Accept((int)(lvt & 0xFF), level: false);
                break;
            case DeliveryMode.Nmi when !before:
                _host.RaiseNmi();
                break;
        }
    }

    private void EndLint0(int vector)
    {
        if ((_lvt[Lvt.Lint0] & (Lvt.RemoteIrr | 0xFF)) != (Lvt.RemoteIrr | (uint)vector))
            return;
        _lvt[Lvt.Lint0] &= ~Lvt.RemoteIrr;
        SampleLint0();
    }

    /// <summary>A write of ICR's low half sends (§10.6.1). Delivery is at once, so the delivery status always reads idle.</summary>
    private void SendInterrupt(uint destination)
    {
        DeliveryMode mode = (DeliveryMode)(_icrLow >> 8 & 7);
        byte vector = (byte)_icrLow;
        bool assert = (_icrLow & (1 << 14)) != 0, level = (_icrLow & (1 << 15)) != 0;
        // INIT level de-assert is not supported since Pentium 4: no effect.
        if (mode == DeliveryMode.Init && level && !assert)
            return;
        if (mode is DeliveryMode.Fixed or DeliveryMode.LowestPriority && vector < 16)
        {
            SignalError(Esr.SendIllegalVector);
            Update();
            return;
        }

        if (mode is DeliveryMode.Reserved or DeliveryMode.ExtInt)
            return;
        // IPIs are edge-triggered whatever the trigger bit says.
        _host.SendIpi(mode, vector, destination, (_icrLow & (1 << 11)) != 0, level: false, (IpiShorthand)(_icrLow >> 18 & 3));
    }

    private void SendSelf(byte vector)
    {
        if (vector < 16)
            SignalError(Esr.SendIllegalVector);
        else
            Accept(vector, level: false);
        Update();
    }
}
