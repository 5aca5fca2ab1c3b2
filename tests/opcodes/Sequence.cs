using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>A sequence being built or run: code, where each step begins, and what of the outcome is not defined.</summary>
internal sealed unsafe class Sequence
{
    private readonly Encoder _encoder;
    private readonly Writer _writer = new();
    private readonly List<Step> _steps = [];

    public Sequence(int bits) => _encoder = Encoder.Create(bits, _writer);

    /// <summary>An instruction under test with the set-up before it: code up to <paramref name="End"/>, flags undefined from there.</summary>
    public readonly record struct Step(Instruction Instruction, int Start, int End, ulong UndefinedFlags);

    public IReadOnlyList<Step> Steps => _steps;

    public int Length => _writer.Length;

    /// <summary>Linear address of the first byte.</summary>
    public ulong Origin { get; private set; }

    /// <summary>Where the next instruction will be.</summary>
    public ulong Address => Origin + (ulong)_writer.Length;

    /// <summary>Status flags whose value is undefined after the last step.</summary>
    public ulong UndefinedFlags => _steps.Count == 0 ? 0 : _steps[^1].UndefinedFlags;

    /// <summary>No step may follow: its result has parts that are not compared.</summary>
    public bool Closed { get; set; }

    /// <summary>Memory written by the last step whose content legitimately differs: address and length.</summary>
    public List<(ulong Address, int Length)> Ignored { get; } = [];

    public ReadOnlySpan<byte> Code(int end) => _writer.Bytes(end);

    public void Clear(ulong origin)
    {
        Origin = origin;
        _writer.Truncate(0);
        _steps.Clear();
        Ignored.Clear();
        Closed = false;
    }

    /// <summary>An instruction that defines all status flags has followed the last step.</summary>
    public void DefineFlags() => _steps.Clear();

    /// <summary>Overwrites four bytes that were emitted before: a displacement or immediate that is known now.</summary>
    public void Patch(int at, int value) => _writer.Patch(at, value);

    public void Truncate(int length) => _writer.Truncate(length);

    /// <summary>Appends an encoding; false (and nothing appended) where the operands do not fit together.</summary>
    public bool TryEmit(in Instruction instruction)
    {
        int at = _writer.Length;
        if (_encoder.TryEncode(instruction, Address, out uint _, out string? _))
            return true;
        _writer.Truncate(at);
        return false;
    }

    /// <summary>Appends bytes that no assembler would make.</summary>
    public void EmitRaw(ReadOnlySpan<byte> bytes)
    {
        foreach (byte b in bytes)
            _writer.WriteByte(b);
    }

    public void Add(in Instruction instruction, int start, ulong undefinedFlags) => _steps.Add(new Step(instruction, start, Length, undefinedFlags));

    private sealed class Writer : CodeWriter
    {
        private readonly byte[] _bytes = new byte[Layout.Page];

        public int Length { get; private set; }

        public ReadOnlySpan<byte> Bytes(int end) => _bytes.AsSpan(0, end);

        public void Truncate(int length) => Length = length;

        public void Patch(int at, int value) => System.Buffers.Binary.BinaryPrimitives.WriteInt32LittleEndian(_bytes.AsSpan(at, 4), value);

        public override void WriteByte(byte value) => _bytes[Length++] = value;
    }
}
