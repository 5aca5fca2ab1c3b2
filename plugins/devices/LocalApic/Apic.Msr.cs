using VirtPS.X86;

namespace VirtPS.Device.LocalApic;

/// <summary>IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC MSRs (SDM Vol. 3A §10.12). False means #GP(0).</summary>
internal sealed partial class Apic
{
    public bool ReadMsr(uint msr, out ulong value)
    {
        value = 0;
        switch (msr)
        {
            case Msr.ApicBase:
                value = _apicBase;
                return true;
            case Msr.TscDeadline when _tscDeadlineOffered:
                EvaluateTimer();
                Update();
                value = ReadTscDeadline();
                return true;
            case >= Msr.X2ApicFirst and <= Msr.X2ApicLast when X2Apic:
                return ReadX2Apic((int)(msr - Msr.X2ApicFirst) << 4, out value);
            default:
                return false;
        }
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        switch (msr)
        {
            case Msr.ApicBase:
                return WriteApicBase(value);
            case Msr.TscDeadline when _tscDeadlineOffered:
                WriteTscDeadline(value);
                return true;
            case >= Msr.X2ApicFirst and <= Msr.X2ApicLast when X2Apic:
                return WriteX2Apic((int)(msr - Msr.X2ApicFirst) << 4, value);
            default:
                return false;
        }
    }

    /// <summary>Mode transitions of figure 10-27; any other is #GP.</summary>
    private bool WriteApicBase(ulong value)
    {
        const ulong mode = Msr.ApicBaseEnable | Msr.ApicBaseX2Apic;
        if ((value & ~(ApicBaseAddress | mode | Msr.ApicBaseBsp)) != 0)
            return false;
        ulong from = _apicBase & mode, to = value & mode;
        bool allowed = to switch
        {
            0 => true,
            Msr.ApicBaseEnable => from != mode,
            mode => _x2ApicOffered && from != 0,
            _ => false,
        };
        if (!allowed)
            return false;
        Volatile.Write(ref _apicBase, (value & ~Msr.ApicBaseBsp) | (IsBootstrap ? Msr.ApicBaseBsp : 0));
        if (to == 0 && from != 0)
        {
            ResetRegisters();
        }
        else if (to == mode && from != mode)
        {
            Volatile.Write(ref _ldr, X2ApicLogicalId);
            _icrHigh = 0;
        }

        Update();
        return true;
    }

    private bool ReadX2Apic(int offset, out ulong value)
    {
        value = 0;
        if (offset == Reg.IcrLow)
        {
            value = _icrLow | ((ulong)_icrHigh << 32);
            return true;
        }

        // Table 10-6: no APR, DFR or ICR high; EOI and self-IPI are write-only.
        if (offset is Reg.Apr or Reg.Dfr or Reg.IcrHigh or Reg.Eoi or Reg.SelfIpi || !TryRead(offset, out uint low))
            return false;
        value = low;
        return true;
    }

    private bool WriteX2Apic(int offset, ulong value)
    {
        if (offset == Reg.IcrLow)
        {
            if ((value & ~0xFFFF_FFFF_000C_CFFFul) != 0)
                return false;
            (_icrLow, _icrHigh) = ((uint)value, (uint)(value >> 32));
            SendInterrupt(_icrHigh);
            return true;
        }

        if ((value & ~(ulong)WritableInX2Apic(offset)) != 0)
            return false;
        if (offset == Reg.SelfIpi)
        {
            SendSelf((byte)value);
            return true;
        }

        return TryWrite(offset, (uint)value);
    }

    /// <summary>Reserved bits must be zero; EOI and ESR take only zero.</summary>
    private static uint WritableInX2Apic(int offset) => offset switch
    {
        Reg.Tpr or Reg.SelfIpi => 0xFF,
        Reg.Svr => Svr.Writable,
        // Delivery status and remote IRR are read-only, not reserved: software may write back what it read.
        >= Reg.LvtTimer and <= Reg.LvtError => Lvt.Writable((offset - Reg.LvtTimer) >> 4) | (1 << 12) | Lvt.RemoteIrr,
        Reg.InitialCount => uint.MaxValue,
        Reg.DivideConfiguration => 0xB,
        _ => 0,
    };
}
