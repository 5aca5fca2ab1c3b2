using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>
/// The native memory of one vCPU, laid out so that generated code reaches all of it from its stack pointer:
/// <code>
/// room below the stack pointer · hot fields · NativeCpu · TLB views · jump caches · slots of branches
/// </code>
/// While generated code runs, the host's stack pointer is <see cref="StackPointer"/>. The room below it takes what a signal pushes (with AVX-512 state
/// some 4 KiB, and the runtime's handler on top) and the return address of a call to a stub.
/// The pointer is 12 modulo 64, because shift instructions take their count modulo 64 from a register: it doubles as the constant 12.
/// </summary>
internal sealed unsafe class VcpuMemory : IDisposable
{
    private const int RoomBelow = 256 * 1024, HotBytes = 72 + PinCount * 8 + 16 + StreamCount * 8 + 32 + 63 & ~63;

    /// <summary>From the stack pointer to <see cref="NativeCpu"/>, which is aligned to 64 bytes: XSAVE wants that of its area.</summary>
    public const int StateOffset = HotBytes - 12;

    /// <summary>Four bytes, not zero when generated code should come back soon. Set by any thread.</summary>
    public const int AttentionOffset = 0;

    // More hot fields, from the stack pointer: eight bytes each.
    public const int TlbMaskOffset = 4, JumpMaskOffset = 12, RetiredOffset = 20, PageBaseOffset = 28, SaveOffset = 36, FlagsOffset = 44;

    /// <summary>Addends of pages that a block has checked for several accesses.</summary>
    public const int PinCount = 8, PinOffset = 52;

    /// <summary>Status flags that a block has saved, as <see cref="Stubs.PackFlags"/> has them.</summary>
    public const int SavedFlagsOffset = PinOffset + PinCount * 8;

    /// <summary>Rounds of a loop without checks: minus the instructions counted in advance; when to begin with the next ones; what each stream of accesses keeps.</summary>
    public const int RoundsOffset = SavedFlagsOffset + 8, CountdownOffset = RoundsOffset + 8, StreamCount = 8, StreamOffset = CountdownOffset + 8;

    /// <summary>Where indirect branches of the supervisor look for their targets, and eight bytes on those of ring 3: <see cref="JumpCache"/>, or, while somebody wants attention, a table of empty entries.</summary>
    public const int JumpTagsOffset = StreamOffset + StreamCount * 8;

    /// <summary>Two operands of an instruction whose flags a block may have to make again.</summary>
    public const int SavedOperandsOffset = JumpTagsOffset + 16;

    private const int StateBytes = 8192;

    /// <summary>From the stack pointer to the first TLB view; views follow each other.</summary>
    public const int TlbOffset = StateOffset + StateBytes;

    /// <summary>The first table of a <see cref="JumpCache"/> has a place for each value of a target's low 16 bits: the index that costs least. Bytes of its tags, and of its host addresses.</summary>
    public const int JumpEntries = 1 << 16, JumpArrayBytes = JumpEntries * 8 + 256;

    /// <summary>The same of the second table.</summary>
    public const int SecondJumpEntries = 1 << 14, SecondJumpArrayBytes = SecondJumpEntries * 8 + 256;

    public const int SecondJumpOffset = 2 * JumpArrayBytes, JumpCacheBytes = 2 * JumpArrayBytes + 2 * SecondJumpArrayBytes;

    /// <summary>From the stack pointer to the supervisor's <see cref="JumpCache"/>; then ring 3's.</summary>
    public const int JumpOffset = TlbOffset + SoftVcpu.ViewCount * Tlb.ViewBytes;

    /// <summary>From the stack pointer to tags of which none matches.</summary>
    public const int NoJumpsOffset = JumpOffset + 2 * JumpCacheBytes;

    /// <summary>Slots of direct branches from page to page in ring 3: eight bytes each.</summary>
    public const int SlotCount = 1 << 16, SlotOffset = NoJumpsOffset + JumpArrayBytes;

    private const int Total = RoomBelow + HotBytes + StateBytes + SoftVcpu.ViewCount * Tlb.ViewBytes + 2 * JumpCacheBytes + JumpArrayBytes + SlotCount * 8 + 4096;

    private readonly void* _allocation;

    public VcpuMemory()
    {
        // SAFETY: freed in Dispose.
        _allocation = LargeMemory.Allocate(Total);
        NativeMemory.Clear(_allocation, Total);
        StackPointer = (byte*)(((nuint)_allocation + RoomBelow + 4095 & ~(nuint)4095) + 12);
        *(ulong*)(StackPointer + TlbMaskOffset) = Tlb.IndexMask << 12;
    }

    public byte* StackPointer { get; }

    /// <summary>A hot field.</summary>
    public ulong* Hot(int offset) => (ulong*)(StackPointer + offset);

    public NativeCpu* State => (NativeCpu*)(StackPointer + StateOffset);

    public byte* View(int view) => StackPointer + TlbOffset + view * Tlb.ViewBytes;

    /// <summary>Any thread: indirect branches miss from now on, and so come to managed code; and back.</summary>
    public void SetJumpsOpen(bool open)
    {
        for (int ring = 0; ring < 2; ring++)
            Volatile.Write(ref *Hot(JumpTagsOffset + 8 * ring), (ulong)(StackPointer + (open ? JumpOffset + ring * JumpCacheBytes : NoJumpsOffset)));
        Volatile.Write(ref *Hot(JumpMaskOffset), open ? JumpCache.Mask : 0);
    }

    public void Dispose() => LargeMemory.Free(_allocation);
}
