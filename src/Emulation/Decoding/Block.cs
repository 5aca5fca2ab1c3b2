using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>Under what a block was decoded; part of its identity.</summary>
internal static class CodeMode
{
    public const uint Bits16 = 0, Bits32 = 1, Bits64 = 2, SizeMask = 3;

    /// <summary>CS, DS, ES and SS are based at 0 with a 4 GiB limit and the usual rights.</summary>
    public const uint Flat = 4;
    public const uint User = 8;

    /// <summary>RFLAGS.AC lets the supervisor reach user pages under SMAP: another TLB view.</summary>
    public const uint SmapOff = 16;

    /// <summary>Each access must be looked at (alignment checks, breakpoints).</summary>
    public const uint Checked = 32;

    /// <summary>The real ring 0, not a supervisor that believes so: instructions on the interrupt flag need no check.</summary>
    public const uint Ring0 = 64;

    /// <summary>
    /// In ring 3's 32-bit flat code: FS, GS are writable data segments of 4 GiB. Only their bases matter, which generated code adds. Not for supervisors: a kernel would have one mode before
    /// it has loaded its FS and another behind.
    /// </summary>
    public const uint WideFs = 128, WideGs = 256, WideMask = WideFs | WideGs;
}

/// <summary>A run of decoded instructions within one page; its <see cref="Op"/>s follow it in the arena.</summary>
[StructLayout(LayoutKind.Sequential, Size = 128)]
internal unsafe struct Block
{
    /// <summary>Where the block was last found to be mapped, and under which <see cref="NativeCpu.MapGeneration"/>.</summary>
    public ulong Linear, MapGeneration;
    public uint Mode;

    /// <summary>Generation of the page when the bytes were read; the block is good while it is still <see cref="GenerationNow"/>'s.</summary>
    public uint Generation;
    public uint* GenerationNow;
    public Op* Ops;

    /// <summary>Instructions; one synthetic end op follows unless the last one always leaves.</summary>
    public uint Count;
    public uint ByteCount;
    public ulong Gpa;

    /// <summary>Next in the hash chain.</summary>
    public Block* Next;

    /// <summary>The instruction goes on in the next page: the interpreter never links it, and looks at both pages on each entry; generated code has a guard at its start.</summary>
    public bool CrossesPage;

    /// <summary>It came from the <see cref="TranslationStore"/>.</summary>
    public bool IsStored;

    /// <summary>A round over several blocks or several rounds, put together for the translator: its ops' bytes are elsewhere.</summary>
    public bool IsTrace;

    /// <summary>Second page of a crossing instruction.</summary>
    public ulong Gpa2;
    public uint Generation2;
    public uint* GenerationNow2;

    /// <summary>Executions left to the interpreter before the block is worth translating.</summary>
    public int Heat;

    /// <summary>Index of the block's translation; 0: none.</summary>
    public int Translation;

    /// <summary>Linear address for which a supervisor's block was translated.</summary>
    public ulong EntryLinear;

    /// <summary>Distance from the start to what follows the last instruction.</summary>
    public static int EndOf(Block* block)
    {
        Op* last = block->Ops + block->Count - 1;
        return last->Offset + last->Length;
    }

    /// <summary>Bytes of the block, with its ops, the one at their end, and the guest's bytes.</summary>
    public readonly int Bytes => (int)(sizeof(Block) + (Count + 1) * sizeof(Op) + ByteCount);

    /// <summary>The bytes in memory still are what was decoded.</summary>
    public readonly bool IsFresh
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Generation == Volatile.Read(ref *GenerationNow) && (!CrossesPage || Generation2 == Volatile.Read(ref *GenerationNow2));
    }
}

/// <summary>Native memory for blocks: filled from the front, emptied at once.</summary>
internal sealed unsafe class CodeArena : IDisposable
{
    /// <summary>Room for the largest block is kept free.</summary>
    private const int Margin = 64 * 1024;

    /// <summary>So many bytes before it is reached, memory should get its pages. A vCPU that decodes little has no thread for that.</summary>
    private const int Soon = 3 << 19;
    private readonly byte* _memory;
    private readonly nuint _size;
    private readonly MemoryAhead.Region? _ahead;
    private nuint _used;

    public CodeArena(nuint size, MemoryAhead? ahead)
    {
        _size = size;
        // SAFETY: freed in Dispose; Allocate stays below _size because callers check IsFull before each block.
        _memory = LargeMemory.Allocate(size);
        _ahead = ahead?.Add(_memory, size, inOrder: true);
    }

    public bool IsFull => _used + Margin > _size;

    /// <summary>Where the next allocation will be.</summary>
    public byte* Peek => _memory + _used;

    public byte* Allocate(int bytes)
    {
        byte* p = _memory + _used;
        _used += Round(bytes);
        if (_ahead is not null && _ahead.IsNew(_used + Soon))
            _ahead.Touch(_used + Soon);
        return p;
    }

    /// <summary>Position of an op, in units of its size.</summary>
    public int IndexOf(Op* op) => (int)(((byte*)op - _memory) / sizeof(Op));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public Op* OpAt(int index) => (Op*)(_memory + (long)index * sizeof(Op));

    public void Clear() => _used = 0;

    // Blocks lie one behind the other.

    public Block* FirstBlock => (Block*)_memory;

    public Block* EndOfBlocks => (Block*)(_memory + _used);

    public static Block* Next(Block* b) => (Block*)((byte*)b + Round(b->Bytes));

    private static nuint Round(int bytes) => (nuint)(bytes + 63) & ~(nuint)63;

    public void Dispose()
    {
        _ahead?.Stop();
        LargeMemory.Free(_memory);
    }
}
