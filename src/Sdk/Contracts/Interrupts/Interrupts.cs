using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Interrupts;

/// <summary>
/// A wire to an interrupt controller. A device drives its own end; ends that share a wire are ORed by <see cref="InterruptWire"/>. A device never knows
/// the number behind it. Called under the device lock.
/// </summary>
public abstract class InterruptLine
{
    /// <summary>Drives the line: true = asserted. Idempotent.</summary>
    public abstract void Set(bool asserted);

    /// <summary>Asserts and releases: one edge.</summary>
    public void Pulse()
    {
        Set(true);
        Set(false);
    }

    /// <summary>A line that leads nowhere.</summary>
    public static InterruptLine Unconnected { get; } = new Nowhere();

    private sealed class Nowhere : InterruptLine
    {
        public override void Set(bool asserted)
        {
        }
    }
}

/// <summary>A named wire with any number of drivers (ORed) and sinks. Built by the machine.</summary>
public sealed class InterruptWire(string name)
{
    private readonly List<(IInterruptInput Input, int Pin)> _sinks = [];
    private int _asserted;

    public string Name { get; } = name;

    public bool Level => _asserted > 0;

    /// <summary>Connects a controller's pin; it sees the present level at once.</summary>
    public void Connect(IInterruptInput input, int pin)
    {
        _sinks.Add((input, pin));
        input.SetPin(pin, Level);
    }

    /// <summary>A new driver's end.</summary>
    public InterruptLine CreateDriver() => new Driver(this);

    private void Change(int delta)
    {
        bool before = Level;
        _asserted += delta;
        if (Level == before)
            return;
        foreach ((IInterruptInput input, int pin) in _sinks)
            input.SetPin(pin, Level);
    }

    private sealed class Driver(InterruptWire wire) : InterruptLine
    {
        private bool _level;

        public override void Set(bool asserted)
        {
            if (_level == asserted)
                return;
            _level = asserted;
            wire.Change(asserted ? 1 : -1);
        }
    }
}

/// <summary>A controller's input pins (8259 IR0–15, IOAPIC pins).</summary>
public interface IInterruptInput
{
    void SetPin(int pin, bool level);
}

/// <summary>A message-signalled interrupt as it travels on the bus (SDM Vol. 3A §10.11).</summary>
public readonly record struct MsiMessage(ulong Address, uint Data);

/// <summary>Where MSIs and IOAPIC messages go. Thread-safe.</summary>
public interface IMsiTarget
{
    void Send(MsiMessage message);
}

/// <summary>The 8259's INTR output as a local APIC's LINT0 sees it: ExtINT. Called under the device lock.</summary>
public interface IExternalInterruptSource
{
    bool IsAsserted { get; }

    /// <summary>INTA: the vector; the spurious vector when nothing is asserted any more.</summary>
    byte Acknowledge();
}

/// <summary>Delivery modes of local APIC messages (SDM Vol. 3A §10.6.1).</summary>
public enum DeliveryMode : byte
{
    Fixed, LowestPriority, Smi, Reserved, Nmi, Init, StartUp, ExtInt,
}

/// <summary>
/// A vCPU's local APIC as the machine sees it. All members but <see cref="Post"/> run on the vCPU's own thread (or while it is stopped). <see cref="Post"/> only queues the
/// message and asks the vCPU to look (<see cref="VcpuRequests.LocalApic"/> and a kick).
/// </summary>
public interface ILocalApic
{
    /// <summary>Current APIC id (x2APIC: 32 bits).</summary>
    uint ApicId { get; }

    /// <summary>IA32_APIC_BASE as it is now.</summary>
    ulong ApicBase { get; }

    /// <summary>True when a message with this destination is for this APIC (SDM Vol. 3A §10.6.2). Any thread.</summary>
    bool MatchesDestination(uint destination, bool logical);

    /// <summary>Arbitration for lowest priority: lower wins. Any thread.</summary>
    int ArbitrationPriority { get; }

    /// <summary>Any thread: queue a message.</summary>
    void Post(DeliveryMode mode, byte vector, bool level);

    /// <summary>vCPU thread: take in queued messages and expired timers; then update the vCPU's <see cref="VcpuRequests.Interrupt"/>.</summary>
    void Process();

    /// <summary>An interrupt that the present priority allows is waiting (ExtINT included).</summary>
    bool HasInterrupt { get; }

    /// <summary>INTA: moves the highest interrupt into service and returns its vector; -1 when it went away meanwhile.</summary>
    int Acknowledge();

    /// <summary>xAPIC register access, offset 0–0xFFF in the page.</summary>
    uint ReadRegister(int offset);

    void WriteRegister(int offset, uint value);

    /// <summary>IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC range; false = #GP.</summary>
    bool ReadMsr(uint msr, out ulong value);

    bool WriteMsr(uint msr, ulong value);

    /// <summary>The whole task priority register; CR8 is its bits 7–4: <c>TaskPriority = (byte)(cr8 &lt;&lt; 4)</c>, and back <c>TaskPriority &gt;&gt; 4</c>.</summary>
    byte TaskPriority { get; set; }
}

/// <summary>What a local APIC may do to its processor and to others; given to it by the machine.</summary>
public interface ILocalApicHost
{
    /// <summary>0 = the bootstrap processor.</summary>
    int VcpuIndex { get; }

    /// <summary>Any thread: ask the vCPU thread to call <see cref="ILocalApic.Process"/>.</summary>
    void RequestProcess();

    /// <summary>vCPU thread: level of <see cref="VcpuRequests.Interrupt"/>.</summary>
    void SetInterruptPending(bool pending);

    /// <summary>vCPU thread: NMI to this processor.</summary>
    void RaiseNmi();

    /// <summary>vCPU thread: INIT to this processor (waits for SIPI unless bootstrap).</summary>
    void Initialize();

    /// <summary>vCPU thread: SIPI; ignored unless waiting. Start address = vector × 4096.</summary>
    void StartUp(byte vector);

    /// <summary>Sends an IPI by destination or shorthand to other APICs (and self where it matches).</summary>
    void SendIpi(DeliveryMode mode, byte vector, uint destination, bool logical, bool level, IpiShorthand shorthand);

    /// <summary>Tells IOAPICs that a level-triggered interrupt with this vector has ended.</summary>
    void BroadcastEoi(byte vector);

    /// <summary>The 8259 pair behind LINT0; null where there is none.</summary>
    IExternalInterruptSource? ExternalInterrupts { get; }

    /// <summary>Guest TSC now, and the VM time in nanoseconds at which it will reach a value (for the deadline timer).</summary>
    ulong GuestTsc { get; }

    ulong TscToNanoseconds(ulong guestTsc);
}

/// <summary>ICR destination shorthand (SDM Vol. 3A figure 10-12).</summary>
public enum IpiShorthand : byte
{
    None, Self, AllIncludingSelf, AllExcludingSelf,
}

/// <summary>IOAPICs listen for EOI of level-triggered vectors.</summary>
public interface IEoiListener
{
    /// <summary>Called under the device lock.</summary>
    void EndOfInterrupt(byte vector);
}

/// <summary>
/// A backend's own PIC, IOAPIC, local APICs and 8254 timer (KVM's in-kernel irqchip). HLT, INIT and SIPI are then the backend's too: <see cref="IVcpu.Run"/> sleeps inside while the
/// processor is halted or waits for SIPI. Sending and pins are thread-safe.
/// </summary>
public interface IPartitionInterruptController : IMsiTarget, IInterruptInput
{
    /// <summary>Number of global system interrupts; pins 0–15 are the ISA interrupts, 0 being the timer's, which ends at the IOAPIC's pin 2.</summary>
    int PinCount { get; }

    /// <summary>Puts everything as after power-on. While no vCPU runs.</summary>
    void Reset();

    /// <summary>The task priority register of a vCPU's local APIC. On its thread, or while it does not run.</summary>
    byte GetTaskPriority(int vcpu);

    /// <summary>A message-signalled interrupt by file descriptor, without a message at first; null where the host can't.</summary>
    IMsiSignal? CreateMsiSignal() => null;

    /// <summary>Opaque state for save; restored into a fresh partition of the same backend. While paused.</summary>
    byte[] Save();

    /// <summary>Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>) for what is damaged or newer.</summary>
    void Restore(ReadOnlySpan<byte> state);
}

/// <summary>A message-signalled interrupt that any thread raises without the device lock. Dispose it with its device.</summary>
public interface IMsiSignal : IDisposable
{
    /// <summary>What is sent; null (masked): raising has no effect. Under the device lock.</summary>
    MsiMessage? Message { get; set; }

    /// <summary>Sends the message. Any thread.</summary>
    void Raise();

    /// <summary>An eventfd that raises it when written, for other processes and drivers; null where there is none (software controllers).</summary>
    int? EventDescriptor { get; }
}

/// <summary>The way through the machine's own controllers: an ordinary MSI.</summary>
public sealed class SoftwareMsiSignal(IMsiTarget target) : IMsiSignal
{
    private sealed record Held(MsiMessage Message);

    private Held? _message;

    public MsiMessage? Message
    {
        get => _message?.Message;
        set => Volatile.Write(ref _message, value is { } message ? new Held(message) : null);
    }

    public int? EventDescriptor => null;

    public void Raise()
    {
        if (Volatile.Read(ref _message) is { } held)
            target.Send(held.Message);
    }

    public void Dispose() => Message = null;
}
