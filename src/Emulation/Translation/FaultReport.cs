using System.Text;
using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>What is written when generated code itself has failed: the block as guest code and as host code, and the registers.</summary>
internal static unsafe class FaultReport
{
    public static string Write(TranslationCache cache, VcpuState* s, ulong hostRip, int signal)
    {
        var text = new StringBuilder();
        int translation = cache.Find((byte*)hostRip);
        text.Append($"Generated code failed with signal {signal} at host address 0x{hostRip:X}");
        if (translation == 0)
        {
            text.AppendLine(", outside all blocks.");
        }
        else
        {
            ref TranslatedBlock t = ref cache.At(translation);
            text.AppendLine($", +0x{hostRip - (ulong)cache.Executable(translation):X} of the block for linear 0x{t.Linear:X} (physical 0x{t.Block->Gpa:X}, mode 0x{t.Block->Mode:X}).");
            text.AppendLine("Guest code:");
            Disassemble(text, t.Decoded, t.Linear, -1);
            text.AppendLine("Host code:");
            Disassemble(text, cache.Executable(translation), t.Size, 64, (ulong)cache.Executable(translation), hostRip);
        }

        text.AppendLine("Guest registers (those that a host register held are as they were there):");
        for (int i = 0; i < 16; i++)
            text.Append($"  {(Gpr)i,-4} {s->Gpr[i]:X16}{(i % 4 == 3 ? "\n" : "")}");
        return text.ToString();
    }

    /// <summary>A line for each instruction of a block whose start is at <paramref name="start"/>; that with the number <paramref name="mark"/> is marked.</summary>
    internal static void Disassemble(StringBuilder text, Block* block, ulong start, int mark)
    {
        for (int i = 0; i < block->Count; i++)
        {
            Op* op = block->Ops + i;
            ulong at = start + (ulong)op->Offset;
            Disassemble(text, Op.Bytes(op), op->Length, (block->Mode & CodeMode.SizeMask) == CodeMode.Bits64 ? 64 : 32, at, i == mark ? at : ulong.MaxValue, start);
        }
    }

    /// <summary>One line per instruction; the one at <paramref name="mark"/> is marked.</summary>
    internal static void Disassemble(StringBuilder text, byte* code, int size, int bits, ulong ip, ulong mark) => Disassemble(text, code, size, bits, ip, mark, ip);

    private static void Disassemble(StringBuilder text, byte* code, int size, int bits, ulong ip, ulong mark, ulong start)
    {
        var bytes = new ReadOnlySpan<byte>(code, size).ToArray();
        var decoder = Iced.Intel.Decoder.Create(bits, bytes, ip);
        var formatter = new NasmFormatter();
        var output = new StringOutput();
        while (decoder.IP < ip + (ulong)size)
        {
            ulong at = decoder.IP;
            decoder.Decode(out Instruction i);
            formatter.Format(i, output);
            text.AppendLine($"{(at == mark ? "=>" : "  ")} {(long)(at - start),4:X} {Convert.ToHexString(bytes, (int)(at - ip), Math.Min(i.Length, size - (int)(at - ip))),-24} {output.ToStringAndReset()}");
        }
    }
}
