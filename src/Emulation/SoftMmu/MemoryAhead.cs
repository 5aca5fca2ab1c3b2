using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>
/// Gives memory that is filled from one end its pages before a vCPU gets there, on a thread of its own: to clear the 2 MiB of a huge page takes milliseconds, and a boot fills some 70 of
/// them in order (decoded code, and what a kernel decompresses or clears). What is taken too much is at most four pieces for each run. Linux since 5.14; elsewhere, and on a host with
/// one processor, there is none.
/// </summary>
internal sealed unsafe partial class MemoryAhead : IDisposable
{
    /// <summary>Pieces of a region are 2 MiB, from its start.</summary>
    public const int PieceBits = 21;

    private readonly Lock _gate = new();

    /// <summary>Held while memory is populated.</summary>
    private readonly Lock _working = new();
    private readonly AutoResetEvent _wake = new(false);
    private Region[] _regions = [];
    private Thread? _thread;
    private volatile bool _ends;

    /// <summary>Null where nothing can be populated ahead.</summary>
    public static MemoryAhead? TryCreate() => OperatingSystem.IsLinux() && Environment.ProcessorCount > 1 ? new MemoryAhead() : null;

    /// <summary>Memory to watch until <see cref="Region.Stop"/>.</summary>
    public Region Add(byte* start, ulong size, bool inOrder)
    {
        var region = new Region(this, start, (int)(size >> PieceBits), inOrder);
        lock (_gate)
            Volatile.Write(ref _regions, [.. _regions, region]);
        return region;
    }

    private void Wake()
    {
        lock (_gate)
        {
            if (_ends)
                return;
            if (_thread is null)
            {
                _thread = new Thread(Work) { Name = "memory-ahead", IsBackground = true };
                _thread.Start();
            }

            _wake.Set();
        }
    }

    private void Work()
    {
        while (!_ends)
        {
            bool found = false;
            foreach (Region region in Volatile.Read(ref _regions))
                found |= PopulateNext(region);
            if (!found)
                _wake.WaitOne();
        }
    }

    private bool PopulateNext(Region region)
    {
        lock (_working)
        {
            if (_ends || region.Next() is not { } piece)
                return false;
            // An older kernel refuses, and so does one without memory to spare: then the vCPU takes its page faults itself.
            _ = Advise(region.Start + ((nuint)piece << PieceBits), (nuint)1 << PieceBits, PopulateWrite);
            return true;
        }
    }

    private void Remove(Region region)
    {
        lock (_gate)
            Volatile.Write(ref _regions, [.. _regions.Where(r => r != region)]);
    }

    /// <summary>Returns when no memory is worked on any more.</summary>
    public void Dispose()
    {
        lock (_gate)
        {
            _ends = true;
            _wake.Set();
        }

        _thread?.Join();
        _wake.Dispose();
    }

    private const int PopulateWrite = 23;

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* address, nuint length, int advice);

    /// <summary>
    /// Memory that is watched. With <paramref name="inOrder"/> it is known to be filled from its start; else two neighbours that are touched make a run, up or down. Any number of threads.
    /// </summary>
    internal sealed class Region(MemoryAhead owner, byte* start, int pieces, bool inOrder)
    {
        private const byte Untouched = 0, Populated = 1, Touched = 2;
        private const int NoRun = int.MinValue;

        private readonly byte[] _states = new byte[pieces];

        /// <summary>In order: the newest piece that is wanted soon.</summary>
        private int _wanted;

        /// <summary>Where a run has got: the piece, doubled, plus 1 where it goes up. <see cref="NoRun"/>: nothing is to be done.</summary>
        private volatile int _head = NoRun;
        private volatile bool _stopped;

        /// <summary>
        /// How far before the head pieces are populated, and in which order: a vCPU may be about to want the next one, and two threads that clear the same one gain nothing.
        /// </summary>
        private ReadOnlySpan<byte> Distances => inOrder ? [1, 2] : [2, 1, 3, 4];

        public byte* Start => start;

        /// <summary>Whether <see cref="Touch"/> has something to do. What is less than a piece at the region's end is of no interest.</summary>
        public bool IsNew(ulong offset)
        {
            ulong piece = offset >> PieceBits;
            return piece < (ulong)pieces && (inOrder ? (int)piece > _wanted : _states[piece] != Touched);
        }

        /// <summary>A piece is used for the first time or, where the order is known, will be soon.</summary>
        public void Touch(ulong offset)
        {
            int piece = (int)(offset >> PieceBits);
            if (inOrder)
            {
                _wanted = piece;
                Run(piece - 1, up: true);
                return;
            }

            _states[piece] = Touched;
            if (piece > 0 && _states[piece - 1] == Touched)
                Run(piece, up: true);
            else if (piece + 1 < pieces && _states[piece + 1] == Touched)
                Run(piece, up: false);
        }

        /// <summary>The memory is about to be given back: returns when it is not worked on any more, nor will be.</summary>
        public void Stop()
        {
            lock (owner._working)
                _stopped = true;
            owner.Remove(this);
        }

        /// <summary>The piece to be populated next, which counts as populated from now on; null: none for now.</summary>
        public int? Next()
        {
            int head = _head;
            if (head == NoRun || _stopped)
                return null;
            foreach (byte distance in Distances)
            {
                int piece = (head >> 1) + ((head & 1) != 0 ? distance : -distance);
                if ((uint)piece < (uint)pieces && Interlocked.CompareExchange(ref _states[piece], Populated, Untouched) == Untouched)
                    return piece;
            }

            return null;
        }

        private void Run(int head, bool up)
        {
            _head = (head * 2) + (up ? 1 : 0);
            owner.Wake();
        }
    }
}
