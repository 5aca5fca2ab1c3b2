using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;

namespace VirtPS.Strategy.Hardware;

/// <summary>A KVM virtual machine. Interrupt controllers are the machine's own device models.</summary>
internal sealed unsafe class KvmPartition : IPartition
{
    // Intel hosts without unrestricted guest need three pages for a TSS and one for an identity map; below the firmware area, above the PCI window.
    private const ulong IdentityMapAddress = 0xFEFF_C000;
    private const uint TssAddress = 0xFEFF_D000;

    private readonly Lock _gate = new();
    private readonly Dictionary<MemorySlot, uint> _slots = [];
    private readonly Stack<uint> _free = new();
    private readonly KvmDevice _device;
    private uint _next;
    private int _fd;

    public KvmPartition(KvmDevice device, PartitionOptions options)
    {
        _device = device;
        Options = options;
        _fd = KvmDevice.Must(LinuxCalls.Ioctl(device.Fd, Kvm.CreateVm, (nuint)0), "a new virtual machine");
        ulong identity = IdentityMapAddress;
        _ = LinuxCalls.Ioctl(_fd, Kvm.SetIdentityMapAddress, &identity);
        _ = LinuxCalls.Ioctl(_fd, Kvm.SetTssAddress, (nuint)TssAddress);
    }

    public PartitionOptions Options { get; }

    public IPartitionInterruptController? InterruptController => null;

    public int Fd => _fd;

    public KvmDevice Device => _device;

    public void MapMemory(MemorySlot slot)
    {
        lock (_gate)
        {
            uint number = _free.TryPop(out uint freed) ? freed : _next++;
            Region(number, slot, slot.Size, slot.ReadOnly ? Kvm.MemReadOnly : Kvm.MemLogDirtyPages);
            _slots.Add(slot, number);
        }
    }

    public void UnmapMemory(MemorySlot slot)
    {
        lock (_gate)
        {
            uint number = _slots[slot];
            Region(number, slot, 0, 0);
            _slots.Remove(slot);
            _free.Push(number);
        }
    }

    private void Region(uint number, MemorySlot slot, ulong size, uint flags)
    {
        var region = new KvmUserspaceMemoryRegion
        {
            Slot = number,
            Flags = flags,
            GuestPhysicalAddress = slot.Gpa,
            MemorySize = size,
            UserspaceAddress = (ulong)slot.Address,
        };
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetUserMemoryRegion, &region), $"the memory slot '{slot.Name}' of {slot.Size >> 20} MiB at 0x{slot.Gpa:X}");
    }

    /// <summary>KVM's log is read and cleared in one step by <see cref="CollectDirty"/>.</summary>
    public void RestartDirtyTracking(MemorySlot slot)
    {
    }

    public void CollectDirty(MemorySlot slot)
    {
        if (slot.ReadOnly)
            return;
        lock (_gate)
        {
            var bitmap = new ulong[(slot.PageCount + 63) / 64];
            fixed (ulong* bits = bitmap)
            {
                var log = new KvmDirtyLog { Slot = _slots[slot], Bitmap = bits };
                KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetDirtyLog, &log), $"the dirty log of '{slot.Name}'");
            }

            for (ulong page = 0; page < slot.PageCount; page++)
            {
                if ((bitmap[page >> 6] >> (int)(page & 63) & 1) != 0)
                    slot.MarkDirty(page);
            }
        }
    }

    /// <summary>The processor keeps its own code coherent.</summary>
    public void InvalidateCode(MemorySlot slot, ulong offset, ulong length)
    {
    }

    public IVcpu CreateVcpu(int index, IVcpuHost host) => new KvmVcpu(this, index, host);

    public void Dispose()
    {
        if (_fd < 0)
            return;
        _ = LinuxCalls.Close(_fd);
        _fd = -1;
    }
}
