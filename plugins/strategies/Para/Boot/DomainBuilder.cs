using System.Runtime.InteropServices;
using System.Text;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Boot;

/// <summary>
/// Puts a kernel into a new domain as Xen's builder does: image, initrd, the list of frames, start_info, ring pages, first page tables, boot stack, in this order; all of it mapped from the
/// kernel's virtual base on, 4 KiB pages only. Frame numbers are pseudo-physical and machine frame numbers at once: the list is the identity.
/// </summary>
internal sealed unsafe class DomainBuilder
{
    private const ulong PageSize = 4096, MappingUnit = 4 << 20, SpareAtEnd = 512 << 10;
    private const ulong Leaf = PageBits.P | PageBits.RW | PageBits.A, ReadOnlyLeaf = PageBits.P | PageBits.A, Link = PageBits.P | PageBits.RW | PageBits.US | PageBits.A | PageBits.D;

    /// <summary>start_info.flags: the initrd is named by frame; the list of frames is one virtual range.</summary>
    private const uint ModStartPfn = 8, VirtualP2M = 16;

    private readonly XenDomain _domain;
    private readonly GuestLoad _load;
    private XenNotes? _notes;
    private ulong _p2mFrame, _tableFrame, _tableCount, _stackFrame, _initrdFrame, _mappedFrames;

    private DomainBuilder(XenDomain domain, GuestLoad load) => (_domain, _load) = (domain, load);

    /// <summary>First wanted when the segments are loaded: in a compressed kernel the notes lie among them, and are come by then.</summary>
    private XenNotes Notes => _notes ??= XenNotes.Read(_load.Kernel);

    public ulong Entry => Notes.Entry;

    /// <summary>Linear address of start_info, which the guest finds in RSI.</summary>
    public ulong StartInfo => Linear(StartInfoFrame);

    /// <summary>Linear address behind the boot stack.</summary>
    public ulong StackTop => Linear(_stackFrame + 1);

    public ulong StartInfoFrame { get; private set; }

    public ulong StoreFrame => StartInfoFrame + 1;

    public ulong ConsoleFrame => StartInfoFrame + 2;

    public ulong RootFrame => _tableFrame;

    private ulong RamFrames => _domain.Frames.RamFrames;

    /// <summary>Loads everything but start_info, which needs the event channels: <see cref="WriteStartInfo"/>.</summary>
    public static DomainBuilder Load(XenDomain domain, GuestLoad load)
    {
        var builder = new DomainBuilder(domain, load);
        ulong end = builder.LoadSegments();
        builder.Plan(end);
        builder.LoadInitrd();
        builder.WriteFrameList();
        builder.WriteTables();
        builder.WriteHypercallPage();
        return builder;
    }

    private ulong Linear(ulong frame) => Notes.VirtualBase + (frame << 12) - Notes.PhysicalOffset;

    private byte* Pointer(ulong frame) => _domain.Frames.Pointer(frame);

    private ulong LoadSegments()
    {
        ulong end = 0;
        foreach (KernelSegment s in _load.Kernel.Segments)
        {
            if (s.Physical > RamFrames << 12 || s.MemorySize > (RamFrames << 12) - s.Physical)
            {
                // A kernel that is none for Xen may lie anywhere.
                _ = Notes;
                throw TooSmall(s.Physical + s.MemorySize);
            }

            _load.Kernel.CopyTo(_domain.Memory, s.Offset, s.Physical, s.FileSize);
            Clear(s.Physical + s.FileSize, s.MemorySize - s.FileSize);
            end = Math.Max(end, s.Physical + s.MemorySize);
        }

        return (end + PageSize - 1) >> 12;
    }

    private void Plan(ulong end)
    {
        _p2mFrame = end;
        StartInfoFrame = _p2mFrame + ((RamFrames * 8 + PageSize - 1) >> 12);
        _tableFrame = StartInfoFrame + 3;
        // More frames need more tables, which are more frames: until nothing changes.
        for (_tableCount = 0;;)
        {
            _stackFrame = _tableFrame + _tableCount;
            ulong top = (_stackFrame + 1) << 12;
            _mappedFrames = ((top + SpareAtEnd + MappingUnit - 1) & ~(MappingUnit - 1)) >> 12;
            ulong count = TablesFor(Linear(0), Linear(_mappedFrames));
            if (count == _tableCount)
                break;
            _tableCount = count;
        }

        if (_mappedFrames > RamFrames)
            throw TooSmall(_mappedFrames << 12);
        _initrdFrame = _mappedFrames;
    }

    /// <summary>Tables of all levels that map a linear range; the top-level table included.</summary>
    private static ulong TablesFor(ulong first, ulong end)
    {
        ulong count = 1;
        for (int shift = 21; shift <= 39; shift += 9)
            count += ((end - 1) >> shift) - (first >> shift) + 1;
        return count;
    }

    private void LoadInitrd()
    {
        if (_load.Initrd is not { } initrd)
            return;
        if (!Notes.InitrdByFrame)
            throw XenNotes.Invalid(_load.Kernel, "wants its initrd mapped, which this loader does not do (it lacks the note MOD_START_PFN)", "Use a newer kernel, or no initrd.");
        ulong end = (_initrdFrame << 12) + initrd.Length;
        if (end > RamFrames << 12 || end > uint.MaxValue)
            throw TooSmall(end);
        initrd.CopyTo(_domain.Memory, 0, _initrdFrame << 12, initrd.Length);
    }

    private void WriteFrameList()
    {
        Clear(_p2mFrame << 12, (StartInfoFrame + 3 - _p2mFrame) << 12);
        var list = (ulong*)Pointer(_p2mFrame);
        for (ulong i = 0; i < RamFrames; i++)
            list[i] = i;
    }

    private void WriteTables()
    {
        Clear(_tableFrame << 12, (_tableCount + 1) << 12);
        ulong next = _tableFrame + 1;
        for (ulong frame = 0; frame < _mappedFrames; frame++)
        {
            ulong linear = Linear(frame);
            ulong table = _tableFrame;
            for (int shift = 39; shift > 12; shift -= 9)
            {
                ulong* entry = (ulong*)Pointer(table) + (linear >> shift & 511);
                if (*entry == 0)
                    *entry = (next++ << 12) | Link;
                table = (*entry & PageBits.AddressMask) >> 12;
            }

            bool isTable = frame >= _tableFrame && frame < _tableFrame + _tableCount;
            ((ulong*)Pointer(table))[linear >> 12 & 511] = (frame << 12) | (isTable ? ReadOnlyLeaf : Leaf);
        }
    }

    /// <summary>One 32-byte stub per hypercall, for kernels that have a page for them (public/arch-x86/xen-x86_64.h).</summary>
    private void WriteHypercallPage()
    {
        if (Notes.HypercallPage is not { } linear)
            return;
        ulong frame = (linear - Notes.VirtualBase + Notes.PhysicalOffset) >> 12;
        if (frame >= _mappedFrames)
            throw XenNotes.Invalid(_load.Kernel, $"has its hypercall page at 0x{linear:X}, outside its image", "The file is damaged.");
        const int iret = 23;
        for (int i = 0; i < 128; i++)
        {
            // push rcx; push r11; (iret: push rax;) mov eax, number; syscall; pop r11; pop rcx; ret
            ReadOnlySpan<byte> stub = i == iret
                ? [0x51, 0x41, 0x53, 0x50, 0xB8, (byte)i, 0, 0, 0, 0x0F, 0x05]
                : [0x51, 0x41, 0x53, 0xB8, (byte)i, 0, 0, 0, 0x0F, 0x05, 0x41, 0x5B, 0x59, 0xC3];
            stub.CopyTo(new Span<byte>(Pointer(frame) + (i * 32), 32));
        }
    }

    /// <summary>struct start_info (public/xen.h).</summary>
    public void WriteStartInfo(uint storePort, uint consolePort)
    {
        byte* p = Pointer(StartInfoFrame);
        void Put(int offset, ulong value) => *(ulong*)(p + offset) = value;
        "xen-3.0-x86_64"u8.CopyTo(new Span<byte>(p, 32));
        Put(32, RamFrames);
        Put(40, _domain.Area.FirstFrame << 12);
        *(uint*)(p + 48) = ModStartPfn | VirtualP2M;
        if (storePort != 0)
            Put(56, StoreFrame);
        *(uint*)(p + 64) = storePort;
        Put(72, ConsoleFrame);
        *(uint*)(p + 80) = consolePort;
        Put(88, Linear(_tableFrame));
        Put(96, _tableCount);
        Put(104, Linear(_p2mFrame));
        if (_load.Initrd is { } initrd)
        {
            Put(112, _initrdFrame);
            Put(120, initrd.Length);
        }

        byte[] text = Encoding.UTF8.GetBytes(_load.CommandLine);
        if (text.Length > 1023)
            throw XenNotes.Invalid(_load.Kernel, $"the command line has {text.Length} bytes; a Xen guest takes 1023", "Shorten -CommandLine.");
        text.CopyTo(new Span<byte>(p + 128, 1024));
    }

    private void Clear(ulong address, ulong length)
    {
        while (length > 0)
        {
            int n = (int)Math.Min(length, 1 << 20);
            if (!_domain.Memory.TryLease(address, n, writable: true, out MemoryLease lease))
                throw new InvalidOperationException($"RAM at 0x{address:X} cannot be written.");
            using (lease)
                NativeMemory.Clear(lease.Pointer, (nuint)n);
            (address, length) = (address + (ulong)n, length - (ulong)n);
        }
    }

    private Sdk.VirtException TooSmall(ulong needed) =>
        XenNotes.Invalid(_load.Kernel, $"needs at least {(needed + 0xF_FFFF) >> 20} MB of memory with what is loaded beside it", $"Give the VM -Memory {(needed + 0xF_FFFF) >> 20}MB or more.");
}
