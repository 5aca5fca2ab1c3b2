namespace VirtPS.Sdk.Interrupts;

/// <summary>
/// The 8259 pair's INTR wire, the processor's end. The machine offers it before the PIC is made; the PIC fetches it with <c>GetService</c> and drives it whenever
/// its level changes. The machine asks vCPU 0's local APIC to look (LINT0), or, where there is none, sets <see cref="Cpu.VcpuRequests.Interrupt"/> itself. The
/// vector is fetched later, at the <see cref="IExternalInterruptSource"/> that the PIC provides.
/// </summary>
public interface IInterruptOutput
{
    /// <summary>Level of INTR now; called under the device lock, only when it changed.</summary>
    void SetIntr(bool asserted);
}

/// <summary>Keys under which the PC's interrupt controllers provide their <see cref="IInterruptInput"/>.</summary>
public static class InterruptInputs
{
    /// <summary>8259 pair: pins 0–15 are the ISA interrupts.</summary>
    public const string Pic = "pic";

    /// <summary>IOAPIC: pins 0–23 are the global system interrupts.</summary>
    public const string IoApic = "ioapic";
}
