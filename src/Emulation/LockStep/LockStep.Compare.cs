using System.Globalization;
using System.Text;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Comparing, and the report of a difference.
internal sealed unsafe partial class LockStep
{
    private const ulong OtherFlags = ~Rflags.Status;

    private void Compare(int steps)
    {
        if (!StatesAgree(N, _expected))
            Differ(steps, "the states differ");
        for (int i = 0; i < _pageCount; i++)
        {
            if (!new ReadOnlySpan<byte>(_pages[i], PageSize).SequenceEqual(new ReadOnlySpan<byte>(New(i), PageSize)))
                Differ(steps, "memory differs");
        }
    }

    private bool StatesAgree(NativeCpu* a, NativeCpu* b) =>
        new ReadOnlySpan<ulong>(a->State.Gpr, 16).SequenceEqual(new ReadOnlySpan<ulong>(b->State.Gpr, 16)) && a->State.Rip == b->State.Rip
        && ((a->StatusFlags() ^ b->StatusFlags()) & ~(ulong)_undefined) == 0 && ((a->State.Rflags ^ b->State.Rflags) & OtherFlags) == 0
        && a->State.InterruptShadow == b->State.InterruptShadow && VectorFile.MxcsrOf(&a->State) == VectorFile.MxcsrOf(&b->State)
        && X87(a, 0, 5).SequenceEqual(X87(b, 0, 5)) && X87(a, VectorFile.Fop, 18).SequenceEqual(X87(b, VectorFile.Fop, 18)) && X87(a, VectorFile.St, 128).SequenceEqual(X87(b, VectorFile.St, 128))
        && Vectors(a, VectorFile.Xmm, 256).SequenceEqual(Vectors(b, VectorFile.Xmm, 256)) && Vectors(a, VectorFile.YmmHigh, Behind).SequenceEqual(Vectors(b, VectorFile.YmmHigh, Behind));

    private static ReadOnlySpan<byte> X87(NativeCpu* n, int offset, int length) => new(n->State.Xsave + offset, length);

    // YMM's upper halves, opmasks and ZMM: all that is behind the header, without a gap.
    private const int Behind = VcpuState.XsaveSize - VectorFile.YmmHigh;

    private static ReadOnlySpan<byte> Vectors(NativeCpu* n, int offset, int length) => new(n->State.Xsave + offset, length);

    /// <summary>Reports and ends the machine.</summary>
    private void Differ(int steps, string what)
    {
        Save(_real);
        string report = Report(steps, what);
        _cpu.Partition.Options.Log.Write(LogLevel.Error, report);
        throw new LockStepException(report[..report.IndexOf('\n')].TrimEnd(), report);
    }

    private string Report(int steps, string what)
    {
        List<string> items = Differences();
        int guilty = LastChange(Math.Min(steps, _steps));
        ulong start = _cpu.StartOf(_block);
        var text = new StringBuilder();
        int place = guilty < 0 ? -1 : PlaceOf(guilty);
        string instruction = place < 0 ? "none known" : Disassembly(place, start);
        text.AppendLine(CultureInfo.InvariantCulture, $"Lock-step: {what} after {steps} instructions from 0x{_before->State.Rip:X}; the first to look at: {instruction}");
        text.AppendLine(CultureInfo.InvariantCulture, $"Block at 0x{start:X} (physical 0x{_block->Gpa:X}, mode 0x{_block->Mode:X}), from instruction {_index}; the interpreter: {_steps} steps, {_stop}. {this}");
        text.AppendLine("Guest code:");
        FaultReport.Disassemble(text, _block, start, place);
        text.AppendLine("Differences (interpreter, generated code):");
        foreach (string item in items)
            text.AppendLine(item);
        text.AppendLine("Before:");
        Registers(text, _before);
        text.AppendLine("Interpreter:");
        Registers(text, _expected);
        text.AppendLine("Generated code:");
        Registers(text, _real);
        HostCode(text);
        return text.ToString();
    }

    private void HostCode(StringBuilder text)
    {
        if (_block->Translation == 0 || _cpu.Translations is not { } cache)
            return;
        text.AppendLine("Host code:");
        ref TranslatedBlock t = ref cache.At(_block->Translation);
        FaultReport.Disassemble(text, cache.Executable(_block->Translation), t.Size, 64, (ulong)cache.Executable(_block->Translation), 0);
        if (t.Unpinned == 0)
            return;
        text.AppendLine("Host code with a check for each access:");
        byte* second = cache.Start + t.Unpinned;
        FaultReport.Disassemble(text, second, t.UnpinnedEnd - t.Unpinned, 64, (ulong)second, 0);
    }

    private List<string> Differences()
    {
        var items = new List<string>();
        for (int i = 0; i < 16; i++)
            Add(items, $"{(Gpr)i}", _expected->State.Gpr[i], _real->State.Gpr[i]);
        Add(items, "RIP", _expected->State.Rip, _real->State.Rip);
        ulong undefined = ~(ulong)_undefined;
        Add(items, "RFLAGS", _expected->StatusFlags() & undefined | _expected->State.Rflags & OtherFlags, _real->StatusFlags() & undefined | _real->State.Rflags & OtherFlags);
        Add(items, "MXCSR", VectorFile.MxcsrOf(&_expected->State), VectorFile.MxcsrOf(&_real->State));
        Add(items, "interrupt shadow", (ulong)_expected->State.InterruptShadow, (ulong)_real->State.InterruptShadow);
        for (int i = 0; i < 3; i++)
            Add(items, s_x87Words[i], *(ulong*)(_expected->State.Xsave + 8 * i) & ControlMask(i), *(ulong*)(_real->State.Xsave + 8 * i) & ControlMask(i));
        for (int i = 0; i < 16; i++)
            Add(items, $"ST{i / 2}[{i % 2}]", *(ulong*)(_expected->State.Xsave + VectorFile.St + 8 * i), *(ulong*)(_real->State.Xsave + VectorFile.St + 8 * i));
        for (int i = 0; i < 32; i++)
        {
            int offset = VectorFile.Xmm + 8 * i, high = VectorFile.YmmHigh + 8 * i;
            Add(items, $"XMM{i / 2}[{i % 2}]", *(ulong*)(_expected->State.Xsave + offset), *(ulong*)(_real->State.Xsave + offset));
            Add(items, $"YMM{i / 2}[{2 + i % 2}]", *(ulong*)(_expected->State.Xsave + high), *(ulong*)(_real->State.Xsave + high));
        }

        for (int i = 0; i < 8; i++)
            AddLane(items, $"K{i}", VectorFile.Opmask + 8 * i);
        for (int i = 0; i < 64; i++)
            AddLane(items, $"ZMM{i / 4}[{4 + i % 4}]", VectorFile.ZmmHigh + 8 * i);
        for (int i = 0; i < 128; i++)
            AddLane(items, $"ZMM{16 + i / 8}[{i % 8}]", VectorFile.HighZmm + 8 * i);
        for (int i = 0; i < _pageCount; i++)
        {
            for (int at = 0; at < PageSize; at += 8)
                Add(items, $"memory 0x{GuestAddress(_pages[i]) + (ulong)at:X}", *(ulong*)(New(i) + at), *(ulong*)(_pages[i] + at));
        }

        return items;
    }

    /// <summary>FCW, FSW, FTW and FOP; FIP; FDP.</summary>
    private static readonly string[] s_x87Words = ["x87 control", "x87 FIP", "x87 FDP"];

    // A byte beside the tags is reserved.
    private static ulong ControlMask(int word) => word == 0 ? ~(0xFFul << 40) : ulong.MaxValue;

    private static void Add(List<string> items, string name, ulong expected, ulong real)
    {
        if (expected != real && items.Count < 64)
            items.Add(string.Create(CultureInfo.InvariantCulture, $"  {name,-20} {expected:X16} {real:X16}"));
    }

    private void AddLane(List<string> items, string name, int offset) => Add(items, name, *(ulong*)(_expected->State.Xsave + offset), *(ulong*)(_real->State.Xsave + offset));

    private ulong GuestAddress(byte* host)
    {
        foreach (MappedSlot s in _cpu.Partition.Slots)
        {
            if ((ulong)(host - s.Host) < s.Size)
                return s.Gpa + (ulong)(host - s.Host);
        }

        return 0;
    }

    /// <summary>
    /// Which step of the interpreter's changed last what differs now, the earliest of these: a wrong value makes others wrong after it. Executes the piece again, step by step; -1:
    /// nothing in it wrote what differs.
    /// </summary>
    private int LastChange(int steps)
    {
        for (int i = 0; i < _pageCount; i++)
            Copy(Live(i), _pages[i]);
        var last = new Dictionary<string, int>();
        var differing = new HashSet<string>(Differences().Select(Name));
        var expected = new Dictionary<string, ulong>();
        for (int n = 0; n <= steps; n++)
        {
            for (int i = 0; i < _pageCount; i++)
                Copy(_pages[i], Old(i));
            Restore(_before);
            int kept = _steps;
            (LockStepStop stop, uint undefined) = (_stop, _undefined);
            RunAhead(n);
            (_steps, _stop, _undefined) = (kept, stop, undefined);
            foreach (string name in differing)
            {
                ulong value = ValueOf(name);
                if (n > 0 && expected[name] != value)
                    last[name] = n - 1;
                expected[name] = value;
            }
        }

        for (int i = 0; i < _pageCount; i++)
            Copy(_pages[i], Live(i));
        Restore(_real);
        return last.Count > 0 ? last.Values.Min() : steps - 1;
    }

    private static string Name(string item) => item.Trim().Split("  ")[0].Split(' ') is [.. var words] ? string.Join(' ', words.TakeWhile(w => w.Length != 16)) : item;

    /// <summary>Something that <see cref="Differences"/> names, in the state now.</summary>
    private ulong ValueOf(string name)
    {
        if (Enum.TryParse(name, out Gpr gpr))
            return S->Gpr[(int)gpr];
        if (name.StartsWith("memory 0x", StringComparison.Ordinal))
        {
            ulong gpa = ulong.Parse(name.AsSpan(9), NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            return *(ulong*)(_cpu.Partition.Find(gpa)!.Host + (gpa - _cpu.Partition.Find(gpa)!.Gpa));
        }

        if (name is "RIP")
            return S->Rip;
        if (name is "RFLAGS")
            return N->StatusFlags() | S->Rflags & OtherFlags;
        if (name is "MXCSR")
            return VectorFile.MxcsrOf(S);
        int control = Array.IndexOf(s_x87Words, name);
        if (control >= 0)
            return *(ulong*)(S->Xsave + 8 * control) & ControlMask(control);
        return name[0] is 'X' or 'Y' or 'Z' or 'S' or 'K' ? *(ulong*)(S->Xsave + PlaceOf(name)) : 0;
    }

    /// <summary>Where in the XSAVE image the quadword is that <see cref="Differences"/> calls <c>ST1[0]</c>, <c>YMM2[3]</c>, <c>ZMM17[5]</c>, <c>K3</c> …</summary>
    private static int PlaceOf(string name)
    {
        string[] parts = name.TrimStart('X', 'Y', 'Z', 'M', 'S', 'T', 'K').Split('[', ']');
        int register = int.Parse(parts[0], CultureInfo.InvariantCulture), lane = parts.Length > 1 ? int.Parse(parts[1], CultureInfo.InvariantCulture) : 0;
        return name[0] switch
        {
            'S' => VectorFile.St + 16 * register + 8 * lane,
            'X' => VectorFile.Xmm + 16 * register + 8 * lane,
            'Y' => VectorFile.YmmHigh + 16 * register + 8 * (lane - 2),
            'K' => VectorFile.Opmask + 8 * register,
            _ when register < 16 => VectorFile.ZmmHigh + 32 * register + 8 * (lane - 4),
            _ => VectorFile.HighZmm + 64 * (register - 16) + 8 * lane,
        };
    }

    /// <summary>The instruction of the block that is step <paramref name="step"/> of the piece.</summary>
    private int PlaceOf(int step)
    {
        int place = _index + step;
        return place < _block->Count ? place : (int)(place % _block->Count);
    }

    private string Disassembly(int place, ulong start)
    {
        var line = new StringBuilder();
        Op* op = _block->Ops + place;
        FaultReport.Disassemble(line, Op.Bytes(op), op->Length, 64, start + (ulong)op->Offset, 0);
        return $"0x{start + (ulong)op->Offset:X} {line.ToString()[8..].Trim()}";
    }

    private static void Registers(StringBuilder text, NativeCpu* n)
    {
        for (int i = 0; i < 16; i++)
            text.Append(CultureInfo.InvariantCulture, $"  {(Gpr)i,-4} {n->State.Gpr[i]:X16}{(i % 4 == 3 ? "\n" : "")}");
        text.AppendLine(CultureInfo.InvariantCulture, $"  RIP  {n->State.Rip:X16}  RFLAGS {n->StatusFlags() | n->State.Rflags & OtherFlags:X}");
    }
}

/// <summary>Interpreter and generated code do not agree. <see cref="Report"/> has everything.</summary>
public sealed class LockStepException(string message, string report) : Exception(message)
{
    /// <summary>Block, guest and host code, the differences, and the states.</summary>
    public string Report { get; } = report;
}
