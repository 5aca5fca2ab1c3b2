using VirtPS.Sdk.Memory;

namespace VirtPS.Strategy.Para.Shared;

/// <summary>
/// A page that the guest and the VMM share. The guest writes it at any time: whoever reads copies once and checks the copy. Offsets are the VMM's own and lie in the
/// page. A page whose memory has gone reads as zeros and swallows writes.
/// </summary>
internal readonly unsafe struct SharedPage(GuestMemory memory, ulong gpa)
{
    public const int Size = 4096;

    public ulong Gpa => gpa;

    public uint Read32(int offset)
    {
        if (!memory.TryLease(gpa + (uint)offset, sizeof(uint), writable: false, out MemoryLease lease))
            return 0;
        // SAFETY: the lease covers the four bytes; aligned, because pages and ring fields are. One access, so that the guest cannot change it half-way.
        using (lease)
            return Volatile.Read(ref *(uint*)lease.Pointer);
    }

    public void Write32(int offset, uint value)
    {
        if (!memory.TryLease(gpa + (uint)offset, sizeof(uint), writable: true, out MemoryLease lease))
            return;
        // SAFETY: as above.
        using (lease)
            Volatile.Write(ref *(uint*)lease.Pointer, value);
    }

    public void Read(int offset, Span<byte> destination)
    {
        if (!memory.TryRead(gpa + (uint)offset, destination))
            destination.Clear();
    }

    public void Write(int offset, ReadOnlySpan<byte> source) => memory.TryWrite(gpa + (uint)offset, source);
}
