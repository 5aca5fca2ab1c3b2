using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Boot;

/// <summary>
/// What a start of a guest works on: the machine's memory and map, what to start, and the bootstrap processor's state, which must have been reset. For one
/// start; not thread-safe.
/// </summary>
public sealed unsafe class BootContext
{
    private RamPlan? _plan;

    public required GuestMemory Memory { get; init; }

    public required MemoryLayout Layout { get; init; }

    public required BootConfiguration Boot { get; init; }

    /// <summary>State of vCPU 0: the loader sets registers, segments and control registers in it.</summary>
    public required VcpuState* State { get; init; }

    /// <summary>Number of vCPUs, 1–64.</summary>
    public required int VcpuCount { get; init; }

    /// <summary>Devices that the firmware tables tell of; null for the standard set.</summary>
    public FirmwarePlatform? Platform { get; init; }

    /// <summary>The image of <see cref="BootKind.Ringlab"/>; null where the program has none.</summary>
    public Func<ReadOnlyMemory<byte>>? EmbeddedGuest { get; init; }

    /// <summary>The kernel, once opened.</summary>
    internal GuestImage Kernel { get; set; } = null!;

    /// <summary>Guest-physical address of the ACPI RSDP.</summary>
    internal ulong Rsdp { get; set; }

    /// <summary>Which RAM is taken.</summary>
    internal RamPlan Plan => _plan ??= new RamPlan(Layout);

    /// <summary>Writes to RAM that <see cref="Plan"/> has given out.</summary>
    internal void Write(ulong address, ReadOnlySpan<byte> content)
    {
        if (!Memory.TryWrite(address, content))
            throw new InvalidOperationException($"There is no RAM at 0x{address:X}.");
    }

    /// <summary>Zeroes RAM: a guest may be started again in memory that a former run has written.</summary>
    internal void Clear(ulong address, ulong length)
    {
        while (length > 0)
        {
            if (!Memory.TryFind(address, out MemorySlot? slot))
                throw new InvalidOperationException($"There is no RAM at 0x{address:X}.");
            int n = (int)Math.Min(Math.Min(length, slot.End - address), 1 << 20);
            if (!Memory.TryLease(address, n, writable: true, out MemoryLease lease))
                throw new InvalidOperationException($"RAM at 0x{address:X} cannot be written.");
            using (lease)
                lease.Span.Clear();
            (address, length) = (address + (ulong)n, length - (ulong)n);
        }
    }
}
