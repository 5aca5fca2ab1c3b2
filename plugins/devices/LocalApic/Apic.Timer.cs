using VirtPS.X86;

namespace VirtPS.Device.LocalApic;

/// <summary>
/// The APIC timer (SDM Vol. 3A §10.5.4). The count is computed from the time at which it was last known. Expiries of a periodic timer that the processor could
/// not take in time merge, as they would in IRR.
/// </summary>
internal sealed partial class Apic
{
    private uint _initialCount, _divideConfiguration;

    /// <summary>At VM time <see cref="_countedFrom"/> the count was <see cref="_count"/>; 0 = stopped.</summary>
    private uint _count;
    private ulong _countedFrom;

    /// <summary>IA32_TSC_DEADLINE; 0 = disarmed.</summary>
    private ulong _tscDeadline;

    private uint TimerMode => _lvt[Lvt.Timer] & Lvt.TimerMode;

    /// <summary>Nanoseconds per count: bits 3, 1, 0 of the divide configuration (figure 10-10).</summary>
    private ulong Divider
    {
        get
        {
            uint code = (_divideConfiguration & 3) | (_divideConfiguration >> 1 & 4);
            return code == 7 ? 1 : 2ul << (int)code;
        }
    }

    private uint CurrentCount
    {
        get
        {
            if (_count == 0 || TimerMode == Lvt.TscDeadline)
                return 0;
            ulong elapsed = (_clock.Now - _countedFrom) / Divider;
            if (elapsed < _count)
                return _count - (uint)elapsed;
            return TimerMode != Lvt.Periodic || _initialCount == 0 ? 0 : _initialCount - (uint)((elapsed - _count) % _initialCount);
        }
    }

    private void ResetTimer()
    {
        (_initialCount, _divideConfiguration, _count, _countedFrom, _tscDeadline) = (0, 0, 0, 0, 0);
        ArmTimer();
    }

    private void WriteInitialCount(uint value)
    {
        // In TSC-deadline mode writes of the initial count are ignored.
        if (TimerMode == Lvt.TscDeadline)
            return;
        EvaluateTimer();
        (_initialCount, _count, _countedFrom) = (value, value, _clock.Now);
        ArmTimer();
    }

    private void WriteDivideConfiguration(uint value)
    {
        EvaluateTimer();
        // The count goes on from where it is, at the new rate.
        (_count, _countedFrom) = (CurrentCount, _clock.Now);
        _divideConfiguration = value & 0xB;
        ArmTimer();
    }

    private void WriteTimerLvt(uint value)
    {
        EvaluateTimer();
        uint before = TimerMode;
        _lvt[Lvt.Timer] = value;
        // Going to or from TSC-deadline mode disarms the timer (§10.5.4.1).
        if (TimerMode != before && (TimerMode == Lvt.TscDeadline || before == Lvt.TscDeadline))
            (_initialCount, _count, _tscDeadline) = (0, 0, 0);
        ArmTimer();
    }

    private void WriteTscDeadline(ulong value)
    {
        if (TimerMode != Lvt.TscDeadline)
            return;
        _tscDeadline = value;
        EvaluateTimer();
        Update();
    }

    private ulong ReadTscDeadline() => TimerMode == Lvt.TscDeadline ? _tscDeadline : 0;

    /// <summary>Raises the timer interrupt for what has expired, and arms the alarm for what comes.</summary>
    private void EvaluateTimer()
    {
        bool expired;
        if (TimerMode == Lvt.TscDeadline)
        {
            expired = _tscDeadline != 0 && _host.GuestTsc >= _tscDeadline;
            if (expired)
                _tscDeadline = 0;
        }
        else
        {
            expired = _count != 0 && _clock.Now - _countedFrom >= _count * Divider;
            if (expired)
                RestartCount();
        }

        if (expired && (_lvt[Lvt.Timer] & Lvt.Masked) == 0)
            Accept((int)(_lvt[Lvt.Timer] & 0xFF), level: false);
        ArmTimer();
    }

    private void RestartCount()
    {
        if (TimerMode != Lvt.Periodic || _initialCount == 0)
        {
            _count = 0;
            return;
        }

        ulong first = _countedFrom + (_count * Divider), period = _initialCount * Divider;
        (_count, _countedFrom) = (_initialCount, first + ((_clock.Now - first) / period * period));
    }

    private void ArmTimer() => _alarm.Deadline =
        _quiesced || (_lvt[Lvt.Timer] & Lvt.Masked) != 0 ? null
        : TimerMode == Lvt.TscDeadline ? (_tscDeadline == 0 ? null : _host.TscToNanoseconds(_tscDeadline))
        : _count == 0 ? null
        : _countedFrom + (_count * Divider);
}
