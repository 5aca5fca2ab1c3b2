using Iced.Intel;

namespace VirtPS.Worker.Inspection;

/// <summary>Machine code as text, Intel syntax.</summary>
internal static class Disassembler
{
    /// <summary>SDM Vol. 2A §2.3.11.</summary>
    public const int MaxInstructionLength = 15;

    public readonly record struct Line(ulong Address, ReadOnlyMemory<byte> Bytes, string Text);

    /// <summary>Up to <paramref name="count"/> instructions; the last may be cut off, and is left out then.</summary>
    public static List<Line> Decode(ReadOnlyMemory<byte> code, ulong address, int bitness, int count)
    {
        var lines = new List<Line>(count);
        var decoder = Decoder.Create(bitness, code.ToArray(), address);
        IntelFormatter formatter = CreateFormatter();
        int at = 0;
        while (lines.Count < count && at < code.Length)
        {
            decoder.Decode(out Instruction instruction);
            if (decoder.LastError == DecoderError.NoMoreBytes)
                break;
            lines.Add(new Line(address + (ulong)at, code.Slice(at, instruction.Length), Format(formatter, in instruction)));
            at += instruction.Length;
        }

        return lines;
    }

    /// <summary>The first instruction's text; null when <paramref name="code"/> does not hold it whole.</summary>
    public static string? First(ReadOnlySpan<byte> code, ulong address, int bitness)
    {
        if (code.Length == 0)
            return null;
        var decoder = Decoder.Create(bitness, code.ToArray(), address);
        decoder.Decode(out Instruction instruction);
        return decoder.LastError == DecoderError.NoMoreBytes ? null : Format(CreateFormatter(), in instruction);
    }

    private static string Format(IntelFormatter formatter, in Instruction instruction)
    {
        var output = new StringOutput();
        formatter.Format(in instruction, output);
        return output.ToString();
    }

    private static IntelFormatter CreateFormatter() => new(new FormatterOptions
    {
        HexPrefix = "0x",
        HexSuffix = "",
        SpaceAfterOperandSeparator = true,
        SmallHexNumbersInDecimal = true,
        RipRelativeAddresses = false,
        UppercaseHex = false,
        BranchLeadingZeros = false,
    });
}
