using VirtPS.Sdk;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Engine.Interrupts;

/// <summary>
/// What connects local APICs, IOAPICs and MSI senders: decodes messages, finds the APICs they are for, and queues them there. Thread-safe; the list of APICs is
/// complete before the first vCPU runs.
/// </summary>
internal sealed class ApicBus(DeviceLock gate, ILog log) : IMsiTarget
{
    private const ulong MessageArea = 0xFEE0_0000, MessageAreaMask = ~0xF_FFFFul;
    private const uint BroadcastXApic = 0xFF, BroadcastX2Apic = uint.MaxValue;

    private readonly List<(int Vcpu, ILocalApic Apic)> _apics = [];
    private readonly List<IEoiListener> _eoiListeners = [];

    public void Add(int vcpu, ILocalApic apic) => _apics.Add((vcpu, apic));

    public void Add(IEoiListener listener) => _eoiListeners.Add(listener);

    /// <summary>SDM Vol. 3A §10.11.1–2: address bits 19–12 destination, 3 redirection hint, 2 logical; data bits 7–0 vector, 10–8 delivery mode, 15 trigger.</summary>
    public void Send(MsiMessage message)
    {
        if ((message.Address & MessageAreaMask) != MessageArea)
        {
            log.Write(LogLevel.Warning, $"MSI to 0x{message.Address:X} is outside the interrupt message area; dropped.");
            return;
        }

        uint destination = (uint)(message.Address >> 12) & 0xFF;
        bool hint = (message.Address & 8) != 0, logical = (message.Address & 4) != 0;
        var mode = (DeliveryMode)((message.Data >> 8) & 7);
        if (hint && mode == DeliveryMode.Fixed)
            mode = DeliveryMode.LowestPriority;
        Deliver(mode, (byte)message.Data, destination, logical, (message.Data & 0x8000) != 0, exclude: -1);
    }

    /// <summary>An IPI from <paramref name="sender"/> (SDM Vol. 3A §10.6).</summary>
    public void SendIpi(int sender, DeliveryMode mode, byte vector, uint destination, bool logical, bool level, IpiShorthand shorthand)
    {
        switch (shorthand)
        {
            case IpiShorthand.None:
                Deliver(mode, vector, destination, logical, level, exclude: -1);
                break;
            case IpiShorthand.Self:
                foreach ((int vcpu, ILocalApic apic) in _apics)
                {
                    if (vcpu == sender)
                        apic.Post(mode, vector, level);
                }

                break;
            case IpiShorthand.AllIncludingSelf:
                Deliver(mode, vector, BroadcastX2Apic, logical: false, level, exclude: -1);
                break;
            case IpiShorthand.AllExcludingSelf:
                Deliver(mode, vector, BroadcastX2Apic, logical: false, level, exclude: sender);
                break;
            default:
                throw new ArgumentOutOfRangeException(nameof(shorthand), shorthand, "No such shorthand.");
        }
    }

    /// <summary>A level-triggered interrupt ended at a processor.</summary>
    public void BroadcastEoi(byte vector)
    {
        using (gate.Hold())
        {
            foreach (IEoiListener listener in _eoiListeners)
                listener.EndOfInterrupt(vector);
        }
    }

    private void Deliver(DeliveryMode mode, byte vector, uint destination, bool logical, bool level, int exclude)
    {
        // 0xFF is everybody for 8-bit senders, also when the receivers are in x2APIC mode.
        if (!logical && destination == BroadcastXApic)
            destination = BroadcastX2Apic;
        bool one = mode == DeliveryMode.LowestPriority;
        ILocalApic? lowest = null;
        foreach ((int vcpu, ILocalApic apic) in _apics)
        {
            if (vcpu == exclude || !apic.MatchesDestination(destination, logical))
                continue;
            if (!one)
                apic.Post(mode, vector, level);
            else if (lowest is null || apic.ArbitrationPriority < lowest.ArbitrationPriority)
                lowest = apic;
        }

        // A local APIC accepts a lowest-priority message that was arbitrated to it as a fixed one.
        lowest?.Post(DeliveryMode.Fixed, vector, level);
    }
}
