using VirtPS.Engine.Running;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>
/// End of interrupt without the local APIC (msr.rst, MSR_KVM_PV_EOI_EN): while one edge-triggered interrupt is in service and none waits, the guest finds bit 0 of its word set and may clear
/// it in place of writing EOI. The bit stands only while guest code runs; on leaving it, a cleared bit is carried out as EOI and a set one taken back.
/// </summary>
internal sealed class PvEoi(GuestMemory memory, VcpuHost host)
{
    private const int EoiRegister = 0xB0, InService = 0x100, TriggerMode = 0x180, Requested = 0x200, RegisterStep = 0x10, VectorWords = 8;

    private bool _offered;
    private bool _mayBeInService;

    public ulong Msr { get; private set; }

    public void Set(ulong value)
    {
        Settle();
        Msr = value;
    }

    public void Delivered() => _mayBeInService = true;

    public void Offer()
    {
        if (!_mayBeInService || (Msr & KvmInterface.Enabled) == 0 || host.LocalApic is not { } apic || Highest(apic, Requested) >= 0)
            return;
        int vector = Highest(apic, InService);
        if (vector < 0)
        {
            _mayBeInService = false;
            return;
        }

        // A level-triggered one must be told to the IOAPIC.
        if ((Read(apic, TriggerMode + (vector >> 5) * RegisterStep) >> (vector & 31) & 1) == 0)
            _offered = TryExchange(1, out _);
    }

    public void Settle()
    {
        if (!_offered)
            return;
        _offered = false;
        if (TryExchange(0, out byte seen) && (seen & 1) == 0 && host.LocalApic is { } apic)
            WriteEoi(apic);
    }

    private bool TryExchange(byte value, out byte seen)
    {
        seen = 0;
        if (!memory.TryLease(Msr & ~KvmInterface.Enabled, KvmInterface.PvEoiSize, writable: true, out MemoryLease lease))
            return false;
        using (lease)
            seen = Interlocked.Exchange(ref lease.Span[0], value);
        return true;
    }

    private static int Highest(ILocalApic apic, int register)
    {
        for (int word = VectorWords - 1; word >= 0; word--)
        {
            uint bits = Read(apic, register + word * RegisterStep);
            if (bits != 0)
                return word * 32 + System.Numerics.BitOperations.Log2(bits);
        }

        return -1;
    }

    private static bool IsX2(ILocalApic apic) => (apic.ApicBase & X86.Msr.ApicBaseX2Apic) != 0;

    private static uint Read(ILocalApic apic, int register)
    {
        if (!IsX2(apic))
            return apic.ReadRegister(register);
        apic.ReadMsr(X86.Msr.X2ApicFirst + (uint)(register >> 4), out ulong value);
        return (uint)value;
    }

    private static void WriteEoi(ILocalApic apic)
    {
        if (IsX2(apic))
            apic.WriteMsr(X86.Msr.X2ApicFirst + (EoiRegister >> 4), 0);
        else
            apic.WriteRegister(EoiRegister, 0);
    }
}
