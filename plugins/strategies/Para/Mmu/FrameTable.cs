using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Mmu;

/// <summary>
/// All frames that the guest may name, with their types: what keeps a guest from writing its page tables itself and from mapping what is not its own. Everything under
/// <see cref="XenDomain.EnterMmu"/>, except <see cref="Pointer"/>. Machine frame numbers (MFN) are guest-physical frame numbers of the partition.
/// </summary>
internal sealed unsafe class FrameTable : IDisposable
{
    private readonly Frame* _frames;
    private readonly MemorySlot _ram;
    private readonly XenArea _area;
    private readonly Stack<ulong> _released = new();

    public FrameTable(MemorySlot ram, XenArea area)
    {
        (_ram, _area) = (ram, area);
        RamFrames = ram.PageCount;
        Count = RamFrames + area.SharedFrames;
        // SAFETY: freed in Dispose; every index comes from TryIndex.
        _frames = (Frame*)NativeMemory.AllocZeroed((nuint)Count, (nuint)sizeof(Frame));
    }

    /// <summary>Frames of RAM: MFN 0 to this, exclusive.</summary>
    public ulong RamFrames { get; }

    /// <summary>Frames of RAM and those that the VMM shares with the guest.</summary>
    public ulong Count { get; }

    /// <summary>At start of day: all RAM is the guest's, nothing is used.</summary>
    public void Reset()
    {
        _released.Clear();
        NativeMemory.Clear(_frames, (nuint)Count * (nuint)sizeof(Frame));
        for (ulong i = 0; i < Count; i++)
            _frames[i].Owned = true;
        // What the VMM shares is only ever writable.
        for (ulong i = RamFrames; i < Count; i++)
            (_frames[i].Type, _frames[i].TypeCount) = (FrameType.Writable, 1);
    }

    /// <summary>The frame at <paramref name="mfn"/>; null when the guest may not use it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Frame* Find(ulong mfn)
    {
        if (mfn >= RamFrames)
        {
            mfn = mfn - _area.FirstFrame + RamFrames;
            if (mfn < RamFrames || mfn >= Count)
                return null;
        }

        Frame* f = _frames + mfn;
        return f->Owned ? f : null;
    }

    /// <summary>The frame with this running number, 0 to <see cref="Count"/>, owned or not; with its MFN.</summary>
    public Frame* At(ulong index, out ulong mfn)
    {
        mfn = index < RamFrames ? index : index - RamFrames + _area.FirstFrame;
        return _frames + index;
    }

    /// <summary>Frames of RAM that the guest has now.</summary>
    public ulong OwnedFrames => RamFrames - (ulong)_released.Count;

    /// <summary>The guest gives a frame back that nothing uses. The caller drops translations before it gives frames out again.</summary>
    public bool TryRelease(ulong mfn)
    {
        Frame* f = Find(mfn);
        if (f == null || !IsRam(mfn) || f->TypeCount != 0 || f->ReadCount != 0)
            return false;
        f->Owned = false;
        f->Type = FrameType.None;
        _released.Push(mfn);
        return true;
    }

    /// <summary>A frame that was given back, zeroed.</summary>
    public bool TryAllocate(GuestMemory memory, out ulong mfn)
    {
        if (!_released.TryPop(out mfn))
            return false;
        NoteWrite(memory, mfn);
        new Span<byte>(Pointer(mfn), 4096).Clear();
        _frames[mfn].Owned = true;
        return true;
    }

    public bool IsRam(ulong mfn) => mfn < RamFrames;

    /// <summary>Host address of a frame of RAM.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public byte* Pointer(ulong mfn) => _ram.Address + (mfn << 12);

    /// <summary>Before the VMM writes a frame of RAM: dirty marks, and the end of code that was made from it.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void NoteWrite(GuestMemory memory, ulong mfn)
    {
        if (Volatile.Read(ref _ram.PageFlags[mfn]) != MemorySlot.DirtyMask && memory.TryLease(mfn << 12, 4096, writable: true, out MemoryLease lease))
            lease.Dispose();
    }

    public void Dispose() => NativeMemory.Free(_frames);
}
