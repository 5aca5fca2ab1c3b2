using VirtPS.Sdk.Interrupts;

namespace VirtPS.Device.LocalApic;

/// <summary>Acceptance, priority, acknowledge and end of interrupt (SDM Vol. 3A §10.8).</summary>
internal sealed partial class Apic
{
    /// <summary>A message in ExtINT mode is waiting (IOAPIC pin in ExtINT mode).</summary>
    private bool _extIntMessage;

    private int _arbitration;

    /// <summary>§10.6.2.4: the processor with the lowest priority takes the message. We compare PPRs, as far as they were last computed.</summary>
    public int ArbitrationPriority => Volatile.Read(ref _arbitration);

    public bool HasInterrupt => ExtIntPending || DeliverableVector() >= 0;

    public byte TaskPriority
    {
        get => _tpr;
        set
        {
            _tpr = value;
            Update();
        }
    }

    /// <summary>Processor priority (§10.8.3.1).</summary>
    private byte ProcessorPriority
    {
        get
        {
            int inService = Math.Max(0, _isr.Highest);
            byte ppr = _tpr >> 4 >= inService >> 4 ? _tpr : (byte)(inService & 0xF0);
            Volatile.Write(ref _arbitration, ppr);
            return ppr;
        }
    }

    /// <summary>
    /// INTR of the 8259 pair reaches the processor through LINT0 in ExtINT mode, or directly while the APIC is disabled by IA32_APIC_BASE (§10.4.3).
    /// </summary>
    private bool ExtIntPending =>
        _extIntMessage
        || ((!HardwareEnabled || (_lvt[Lvt.Lint0] & (Lvt.Masked | 0x700)) == ((uint)DeliveryMode.ExtInt << 8))
            && _host.ExternalInterrupts is { IsAsserted: true });

    public int Acknowledge()
    {
        if (ExtIntPending)
        {
            _extIntMessage = false;
            int external = _host.ExternalInterrupts?.Acknowledge() ?? -1;
            Update();
            return external;
        }

        int vector = DeliverableVector();
        if (vector >= 0)
        {
            _irr[vector] = false;
            _isr[vector] = true;
        }

        Update();
        return vector;
    }

    /// <summary>The vector that would be dispatched now; -1 for none.</summary>
    private int DeliverableVector()
    {
        if (!HardwareEnabled || !SoftwareEnabled)
            return -1;
        int requested = _irr.Highest;
        return requested >= 0 && requested >> 4 > ProcessorPriority >> 4 ? requested : -1;
    }

    /// <summary>Takes a fixed interrupt into IRR; TMR remembers its trigger mode for the EOI.</summary>
    private void Accept(int vector, bool level)
    {
        if (!HardwareEnabled || !SoftwareEnabled)
            return;
        if (vector < 16)
        {
            SignalError(Esr.ReceiveIllegalVector);
            return;
        }

        _irr[vector] = true;
        _tmr[vector] = level;
    }

    private void EndOfInterrupt()
    {
        int vector = _isr.Highest;
        if (vector < 0)
            return;
        _isr[vector] = false;
        if (_tmr[vector])
        {
            EndLint0(vector);
            if ((_svr & Svr.SuppressEoiBroadcast) == 0)
                _host.BroadcastEoi((byte)vector);
        }

        Update();
    }

    /// <summary>Sets an error bit, to be seen after the next write of ESR, and raises the error interrupt (§10.5.3).</summary>
    private void SignalError(uint bit)
    {
        bool isNew = (_esrPending & bit) == 0;
        _esrPending |= bit;
        uint lvt = _lvt[Lvt.Error];
        // An illegal vector in the error entry itself is recorded, but cannot be delivered.
        if (isNew && (lvt & Lvt.Masked) == 0 && (lvt & 0xFF) >= 16)
            Accept((int)(lvt & 0xFF), level: false);
    }
}
