using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>A KVM virtual machine, with KVM's interrupt controllers or without: then they are the machine's own device models.</summary>
internal sealed unsafe class KvmPartition : IPartition
{
    // Intel hosts without unrestricted guest need three pages for a TSS and one for an identity map; below the firmware area, above the PCI window.
    private const ulong IdentityMapAddress = 0xFEFF_C000;
    private const uint TssAddress = 0xFEFF_D000;

    private readonly Lock _gate = new();
    private readonly Dictionary<MemorySlot, uint> _slots = [];
    private readonly Stack<uint> _free = new();
    private readonly List<KvmVcpu> _vcpus = [];
    private readonly KvmDevice _device;
    private readonly KvmInterruptController? _controller;
    private readonly KvmDoorbells? _doorbells;
    private readonly KvmClock _clock;
    private uint _next;
    private int _fd;

    /// <param name="device">KVM.</param>
    /// <param name="options">What the machine wants.</param>
    /// <param name="ownControllers">KVM's interrupt controllers are offered; the machine takes them or leaves them.</param>
    public KvmPartition(KvmDevice device, PartitionOptions options, bool ownControllers = false)
    {
        _device = device;
        Options = options;
        _fd = KvmDevice.Must(LinuxCalls.Ioctl(device.Fd, Kvm.CreateVm, (nuint)0), "a new virtual machine");
        ulong identity = IdentityMapAddress;
        _ = LinuxCalls.Ioctl(_fd, Kvm.SetIdentityMapAddress, &identity);
        _ = LinuxCalls.Ioctl(_fd, Kvm.SetTssAddress, (nuint)TssAddress);
        Tsc = new TscBase(options.TscFrequency);
        _clock = new KvmClock(_fd, device.Check(Kvm.CapAdjustClock) != 0, options.TscFrequency);
        try
        {
            if (ownControllers && options.UsePartitionInterruptController)
                _controller = new KvmInterruptController(this, device);
            if (device.Check(Kvm.CapIoeventfd) != 0)
                _doorbells = new KvmDoorbells(_fd);
            SendMsrsToUs();
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>What ties all vCPUs' TSCs to the machine's.</summary>
    public TscBase Tsc { get; }

    /// <summary>
    /// MSRs that KVM does not have, or refuses, come to the machine. So do, without local APICs of KVM's own, two that it would answer although it knows nothing of
    /// them then; the x2APIC range needs no filter (and can't have one), KVM refuses it then.
    /// </summary>
    private void SendMsrsToUs()
    {
        if (!_device.SendsMsrs)
            return;
        var enable = new KvmEnableCap { Cap = Kvm.CapUserSpaceMsr };
        enable.Args[0] = Kvm.MsrReasonInvalid | Kvm.MsrReasonUnknown | Kvm.MsrReasonFilter;
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.EnableCap, &enable), "to hand on model-specific registers");
        if (_controller is not null)
            return;
        // One bit per register, 0 = to us.
        byte none = 0;
        var filter = new KvmMsrFilter();
        filter.Ranges[0] = new KvmMsrFilterRange { Flags = Kvm.MsrFilterRead | Kvm.MsrFilterWrite, Base = Msr.ApicBase, Count = 1, Bitmap = &none };
        filter.Ranges[1] = new KvmMsrFilterRange { Flags = Kvm.MsrFilterRead | Kvm.MsrFilterWrite, Base = Msr.TscDeadline, Count = 1, Bitmap = &none };
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetMsrFilter, &filter), "the filter of model-specific registers");
    }

    /// <summary>Reads guest memory without a vCPU; false where there is none.</summary>
    public bool TryRead(ulong gpa, Span<byte> destination)
    {
        lock (_gate)
        {
            foreach (MemorySlot slot in _slots.Keys)
            {
                if (gpa - slot.Gpa >= slot.Size || slot.Size - (gpa - slot.Gpa) < (ulong)destination.Length)
                    continue;
                // SAFETY: inside the slot, which is mapped as long as it is in the table.
                new ReadOnlySpan<byte>(slot.Address + (gpa - slot.Gpa), destination.Length).CopyTo(destination);
                return true;
            }
        }

        return false;
    }

    /// <summary>Where the guest's byte at <paramref name="gpa"/> is in this process; null where there is no memory that the guest may write.</summary>
    public byte* Find(ulong gpa)
    {
        lock (_gate)
        {
            foreach (MemorySlot slot in _slots.Keys)
            {
                if (gpa - slot.Gpa < slot.Size)
                    return slot.ReadOnly ? null : slot.Address + (gpa - slot.Gpa);
            }
        }

        return null;
    }

    public PartitionOptions Options { get; }

    public IPartitionInterruptController? InterruptController => _controller;

    public IPartitionDoorbells? Doorbells => _doorbells;

    /// <summary>By index, in order of creation.</summary>
    public IReadOnlyList<KvmVcpu> Vcpus => _vcpus;

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

    public IVcpu CreateVcpu(int index, IVcpuHost host)
    {
        var vcpu = new KvmVcpu(this, index, host);
        _vcpus.Add(vcpu);
        return vcpu;
    }

    public void Pause()
    {
        _doorbells?.Drain();
        _controller?.Pause();
        _clock.Pause();
        foreach (KvmVcpu vcpu in _vcpus)
            vcpu.TellOfPause();
    }

    /// <summary>The vCPUs' states and TSCs first, on which timers and clock depend.</summary>
    public void Resume()
    {
        foreach (KvmVcpu vcpu in _vcpus)
            vcpu.Prepare();
        _controller?.Resume();
        if (_vcpus.Count > 0)
            _clock.Resume(_vcpus[0].MachineTsc);
    }

    public byte[]? SaveState() => _clock.Save();

    public void RestoreState(ReadOnlySpan<byte> state) => _clock.Restore(state);

    public void Dispose()
    {
        if (_fd < 0)
            return;
        _doorbells?.Dispose();
        _ = LinuxCalls.Close(_fd);
        _fd = -1;
    }
}
