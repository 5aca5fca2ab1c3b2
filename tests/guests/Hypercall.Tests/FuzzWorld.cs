using System.Buffers.Binary;

namespace VirtPS.Hypercall.Tests;

/// <summary>What the generator knows of the guest that it writes calls for.</summary>
/// <param name="RamFrames">Frames of RAM.</param>
/// <param name="RootFrame">The first page tables: top level first.</param>
/// <param name="TableCount">How many those are.</param>
/// <param name="SharedInfo">Frame of shared_info; grant frames follow.</param>
internal sealed record FuzzWorld(FuzzGuest Guest, ulong RamFrames, ulong RootFrame, ulong TableCount, ulong StoreFrame, ulong ConsoleFrame, ulong SharedInfo);

/// <summary>A batch of one vCPU: its records and what they point to.</summary>
internal sealed class FuzzBatch
{
    public byte[] Records { get; } = new byte[FuzzMap.RecordsPerBatch * FuzzMap.RecordBytes];

    /// <summary>Whether a record is a hypercall; the others are the guest's own reads and writes.</summary>
    public bool IsCall(int record) => BinaryPrimitives.ReadUInt64LittleEndian(Records.AsSpan(record * FuzzMap.RecordBytes)) < FuzzMap.Poke;

    public byte[] Slots { get; } = new byte[FuzzMap.RecordsPerBatch * FuzzMap.SlotBytes];
}
