using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

/// <summary>
/// The machine's <see cref="IVcpuHost"/> with the vCPU marked as being outside guest memory during each call, so that nobody who wants its translations
/// flushed waits for a vCPU that waits for a device.
/// </summary>
internal sealed unsafe class HostGate(SoftVcpu cpu, IVcpuHost host) : IVcpuHost
{
    public void ReadPort(ushort port, int size, byte* data, int count)
    {
        int before = cpu.EnterHost();
        host.ReadPort(port, size, data, count);
        cpu.LeaveHost(before);
        cpu.Counters->PortReads++;
    }

    public void WritePort(ushort port, int size, byte* data, int count)
    {
        int before = cpu.EnterHost();
        host.WritePort(port, size, data, count);
        cpu.LeaveHost(before);
        cpu.Counters->PortWrites++;
    }

    public ulong ReadMmio(ulong gpa, int size)
    {
        int before = cpu.EnterHost();
        ulong value = host.ReadMmio(gpa, size);
        cpu.LeaveHost(before);
        cpu.Counters->MmioReads++;
        return value;
    }

    public void WriteMmio(ulong gpa, int size, ulong value)
    {
        int before = cpu.EnterHost();
        host.WriteMmio(gpa, size, value);
        cpu.LeaveHost(before);
        cpu.Counters->MmioWrites++;
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        int before = cpu.EnterHost();
        bool known = host.ReadMsr(msr, out value);
        cpu.LeaveHost(before);
        cpu.Counters->MsrAccesses++;
        return known;
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        int before = cpu.EnterHost();
        bool known = host.WriteMsr(msr, value);
        cpu.LeaveHost(before);
        cpu.Counters->MsrAccesses++;
        return known;
    }

    public ulong ReadCr8()
    {
        int before = cpu.EnterHost();
        ulong value = host.ReadCr8();
        cpu.LeaveHost(before);
        return value;
    }

    public void WriteCr8(ulong value)
    {
        int before = cpu.EnterHost();
        host.WriteCr8(value);
        cpu.LeaveHost(before);
    }

    // Answers from the host's counter; never waits.
    public ulong ReadMachineTsc() => host.ReadMachineTsc();

    public void FillRandom(Span<byte> destination) => host.FillRandom(destination);

    public bool Hypercall(VcpuState* state)
    {
        int before = cpu.EnterHost();
        bool known = host.Hypercall(state);
        cpu.LeaveHost(before);
        return known;
    }

    public void ReportFailure(string reason) => host.ReportFailure(reason);
}
