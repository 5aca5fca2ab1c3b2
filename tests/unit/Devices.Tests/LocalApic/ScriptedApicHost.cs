using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.LocalApic;

/// <summary>The processor, the bus and the 8259 around a local APIC; records what the APIC does to them.</summary>
internal sealed class ScriptedApicHost(TestMachine machine, int index = 0) : ILocalApicHost, IExternalInterruptSource
{
    /// <summary>Guest TSC ticks per nanosecond.</summary>
    public const ulong TscPerNanosecond = 2;

    public List<string> Events { get; } = [];

    public bool ProcessRequested { get; set; }

    public bool InterruptPending { get; private set; }

    /// <summary>INTR of the 8259 pair.</summary>
    public bool IsAsserted { get; set; }

    public int VcpuIndex => index;

    public IExternalInterruptSource? ExternalInterrupts => this;

    public ulong GuestTsc => machine.Time.Now * TscPerNanosecond;

    public ulong TscToNanoseconds(ulong guestTsc) => (guestTsc + TscPerNanosecond - 1) / TscPerNanosecond;

    public byte Acknowledge()
    {
        IsAsserted = false;
        return 0x20;
    }

    public void RequestProcess() => ProcessRequested = true;

    public void SetInterruptPending(bool pending)
    {
        InterruptPending = pending;
        machine.Record($"pending {pending}");
    }

    public void RaiseNmi() => Event("NMI");

    public void Initialize() => Event("INIT");

    public void StartUp(byte vector) => Event($"SIPI {vector:X2}");

    public void SendIpi(DeliveryMode mode, byte vector, uint destination, bool logical, bool level, IpiShorthand shorthand) =>
        Event($"IPI {mode} {vector:X2} to {destination:X} {(logical ? "logical" : "physical")} {shorthand}");

    public void BroadcastEoi(byte vector) => Event($"EOI {vector:X2}");

    private void Event(string what)
    {
        Events.Add(what);
        machine.Record(what);
    }
}
