namespace VirtPS.Device.LocalApic;

/// <summary>The registers, as both interfaces see them, and the xAPIC page.</summary>
internal sealed partial class Apic
{
    public uint ReadRegister(int offset)
    {
        // With the APIC disabled, or in x2APIC mode, nothing answers at the page (SDM Vol. 3A §10.12.2).
        if (!HardwareEnabled || X2Apic || (offset & 0xF) != 0)
            return uint.MaxValue;
        if (TryRead(offset, out uint value))
            return value;
        SignalError(Esr.IllegalRegister);
        Update();
        return 0;
    }

    public void WriteRegister(int offset, uint value)
    {
        if (!HardwareEnabled || X2Apic || (offset & 0xF) != 0)
            return;
        switch (offset)
        {
            case Reg.Ldr:
                Volatile.Write(ref _ldr, value & 0xFF00_0000);
                break;
            case Reg.Dfr:
                Volatile.Write(ref _dfr, value | 0x0FFF_FFFF);
                break;
            case Reg.IcrHigh:
                _icrHigh = value & 0xFF00_0000;
                break;
            case Reg.IcrLow:
                _icrLow = value & 0xCCFFF;
                SendInterrupt(_icrHigh >> 24);
                break;
            default:
                // Read-only registers ignore writes; only addresses without a register are an error.
                if (TryWrite(offset, value) || TryRead(offset, out _))
                    break;
                SignalError(Esr.IllegalRegister);
                Update();
                break;
        }
    }

    private bool TryRead(int offset, out uint value)
    {
        uint? register = offset switch
        {
            Reg.Id => X2Apic ? ApicId : ApicId << 24,
            Reg.Version => Version,
            Reg.Tpr => _tpr,
            Reg.Ppr => ProcessorPriority,
            // APR is gone since Pentium 4 and EOI is write-only: both read as zero. The x2APIC interface refuses them before it comes here.
            Reg.Apr or Reg.Eoi => 0,
            Reg.Ldr => _ldr,
            Reg.Dfr => _dfr,
            Reg.Svr => _svr,
            Reg.Esr => _esr,
            Reg.IcrLow => _icrLow,
            Reg.IcrHigh => _icrHigh,
            >= Reg.Isr and < Reg.Tmr => _isr.Register((offset - Reg.Isr) >> 4),
            >= Reg.Tmr and < Reg.Irr => _tmr.Register((offset - Reg.Tmr) >> 4),
            >= Reg.Irr and < Reg.Esr => _irr.Register((offset - Reg.Irr) >> 4),
            >= Reg.LvtTimer and <= Reg.LvtError => _lvt[(offset - Reg.LvtTimer) >> 4],
            Reg.InitialCount => _initialCount,
            Reg.CurrentCount => CurrentCount,
            Reg.DivideConfiguration => _divideConfiguration,
            _ => null,
        };
        value = register ?? 0;
        return register is not null;
    }

    /// <summary>Writes what both interfaces write alike; false when there is no such writable register.</summary>
    private bool TryWrite(int offset, uint value)
    {
        switch (offset)
        {
            case Reg.Tpr:
                TaskPriority = (byte)value;
                return true;
            case Reg.Eoi:
                EndOfInterrupt();
                return true;
            case Reg.Svr:
                WriteSpurious(value & Svr.Writable);
                return true;
            case Reg.Esr:
                (_esr, _esrPending) = (_esrPending, 0);
                return true;
            case Reg.LvtTimer:
                WriteTimerLvt(LvtValue(Lvt.Timer, value));
                break;
            case > Reg.LvtTimer and <= Reg.LvtError:
                int entry = (offset - Reg.LvtTimer) >> 4;
                _lvt[entry] = LvtValue(entry, value);
                if (entry == Lvt.Lint0)
                    SampleLint0();
                break;
            case Reg.InitialCount:
                WriteInitialCount(value);
                break;
            case Reg.DivideConfiguration:
                WriteDivideConfiguration(value);
                break;
            default:
                return false;
        }

        Update();
        return true;
    }

    private uint LvtValue(int entry, uint value)
    {
        value &= Lvt.Writable(entry);
        if (entry == Lvt.Timer && !_tscDeadlineOffered)
            value &= ~Lvt.TscDeadline;
        // Remote IRR is read-only and goes when the entry is no longer level-triggered; a disabled APIC keeps its entries masked (§10.4.7.2).
        if ((value & Lvt.LevelTriggered) != 0)
            value |= _lvt[entry] & Lvt.RemoteIrr;
        return SoftwareEnabled ? value : value | Lvt.Masked;
    }

    private void WriteSpurious(uint value)
    {
        bool wasEnabled = SoftwareEnabled;
        _svr = value;
        if (wasEnabled && !SoftwareEnabled)
        {
            EvaluateTimer();
            for (int i = 0; i < Lvt.Count; i++)
                _lvt[i] |= Lvt.Masked;
            ArmTimer();
        }

        Update();
    }
}
