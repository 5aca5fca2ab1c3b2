using Iced.Intel;
using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>Runs programs on the host and in each software processor and holds all outcomes against the host's.</summary>
internal sealed unsafe class ProgramOracle : IDisposable
{
    private readonly Layout _layout = new();
    private readonly NativeRunner _native;
    private readonly List<(string Name, GuestRunner Guest)> _guests = [];
    private readonly ProgramForms _forms;
    private readonly TextWriter _out;
    private readonly ulong _seed;
    private readonly int _bits;
    private readonly SortedDictionary<string, long> _ends = new(StringComparer.Ordinal), _kinds = new(StringComparer.Ordinal);

    public ProgramOracle(ulong seed, int bits, IReadOnlyList<Code> codes, IReadOnlyList<string> tiers, TextWriter output)
    {
        (_seed, _bits, _forms, _out) = (seed, bits, new ProgramForms(codes), output);
        _native = new NativeRunner(_layout, HostVectors.Components);
        foreach (string tier in tiers)
            _guests.Add((tier, new GuestRunner(_layout, EngineOf(tier))));
    }

    private static EngineOptions EngineOf(string tier) => tier switch
    {
        "interpreter" => new EngineOptions(),
        "translator" => new EngineOptions { Translate = true, HotAfter = 0 },
        "translator-v2" => new EngineOptions { Translate = true, HotAfter = 0, Host = HostFeatures.Current.LimitedTo(CpuLevel.V2), AfterTranslation = HostLevelCheck.Check },
        _ => throw new ArgumentException($"There is no tier '{tier}': interpreter, translator, translator-v2."),
    };

    public bool IsPossible => _bits == 64 || _native.HasCompatibilityMode();

    /// <summary>Programs times inputs.</summary>
    public long Sequences { get; private set; }

    public int Differences { get; private set; }

    /// <summary>Differences that were gone when the same program ran again: a signal in the midst of the native side, which pushes onto its stack, or #UD by a hypervisor (<see cref="Oracle.Transient"/>).</summary>
    public int Transient { get; private set; }

    /// <summary>Programs that did not end on the host within a second.</summary>
    public int Endless { get; private set; }

    /// <summary>Programs that left the layout's code for the oracle's own on the host.</summary>
    public int Strayed { get; private set; }

    public bool Trace { get; init; }

    /// <summary>How programs ended, by vector.</summary>
    public IReadOnlyDictionary<string, long> Ends => _ends;

    /// <summary>What they consisted of.</summary>
    public IReadOnlyDictionary<string, long> Kinds => _kinds;

    /// <summary>Program <paramref name="number"/> of this seed, with some inputs. Each has random numbers of its own, so that it can be made again alone.</summary>
    public void RunOne(long number, int items, int inputs)
    {
        var random = new XorShift(_seed * 0x1_0000_0001 + (ulong)number * 0x9E37_79B9 + (ulong)_bits);
        var generator = new ProgramGenerator(_layout, random, _bits, _forms);
        generator.Next(1 + random.Below(items));
        if (Trace)
        {
            _out.WriteLine($"program {number}");
            Print(generator.Program);
        }

        FillMemory(random);
        Span<MachineImage> images = new MachineImage[inputs];
        foreach (ref MachineImage image in images)
            image.Randomize(random, (ulong)_layout.StackTop + 2048, HostVectors.Components);
        byte[] before = Save();
        Load(generator.Program, before);
        for (int i = 0; i < inputs; i++)
        {
            string? difference = RunAll(generator, images[i], out int end);
            if (end is Outcome.Endless or Outcome.Strayed)
            {
                Endless += end == Outcome.Endless ? 1 : 0;
                Strayed += end == Outcome.Strayed ? 1 : 0;
                return;
            }

            Sequences++;
            if (difference == null)
                continue;
            string? again = Repeat(generator, images[..(i + 1)], before);
            // Where a hypervisor makes valid instructions #UD, it may do so twice in a row, but not for long; a signal that finds no stack (RSP is not canonical) ends as #GP.
            for (int tries = 0; again != null && end is Vector.UD or Vector.GP && tries < 3; tries++)
            {
                Thread.Sleep(100);
                again = Repeat(generator, images[..(i + 1)], before);
            }

            if (again == null)
            {
                Transient++;
                return;
            }

            Differences++;
            _out.WriteLine($"DIFF in program {number}, input {i} (--programs 1 --first {number} --seed {_seed} --bits {_bits})");
            _out.Write(again);
            Load(generator.Program, before);
            Print(generator.Program);
            return;
        }

        foreach ((string kind, long n) in generator.Kinds)
            _kinds[kind] = _kinds.GetValueOrDefault(kind) + n;
    }

    /// <summary>Again from the beginning.</summary>
    private string? Repeat(ProgramGenerator generator, Span<MachineImage> images, byte[] before)
    {
        Load(generator.Program, before);
        string? again = null;
        for (int k = 0; k < images.Length && again == null; k++)
            again = RunAll(generator, images[k], out _);
        return again;
    }

    public void Dispose()
    {
        foreach ((string _, GuestRunner guest) in _guests)
            guest.Dispose();
        _native.Dispose();
        _layout.Dispose();
    }

    private string? RunAll(ProgramGenerator generator, in MachineImage input, out int ending)
    {
        Sequence program = generator.Program;
        byte* start = (byte*)program.Origin, end = start + program.Length;
        _native.RunProgram(start, end, _bits, input, out Outcome native);
        _ends[native.Name] = _ends.GetValueOrDefault(native.Name) + 1;
        ending = native.Vector;
        if (ending is Outcome.Endless or Outcome.Strayed)
            return null;
        foreach ((string name, GuestRunner guest) in _guests)
        {
            string? failure = guest.RunProgram(start, end, _bits, input, out Outcome outcome);
            failure = failure != null ? $"    guest: {failure}\n" : CompareOutcome(native, outcome, generator) ?? CompareMemory(guest, start, end);
            if (failure != null)
                return $"    {name}; native: {native.Name} at +0x{native.Rip - program.Origin:X}\n{failure}";
        }

        return null;
    }

    private string? CompareOutcome(in Outcome native, Outcome guest, ProgramGenerator generator)
    {
        // Linux shows a process every fault in the kernel's half as one of rights.
        if (native.Vector == Vector.PF && guest.Vector == Vector.PF && (long)native.Cr2 < 0)
            guest.Error |= 1;
        // INT1 is a trap; hypervisors under which the native side may run report its RIP as a fault's. Programs come by one where they change themselves or jump into an instruction.
        const byte Int1 = 0xF1;
        if (native.Vector == Vector.DB && guest.Vector == Vector.DB && guest.Rip == native.Rip + 1 && native.Rip - generator.Program.Origin < (ulong)generator.Program.Length && *(byte*)native.Rip == Int1)
            guest.Rip = native.Rip;
        ulong undefined = generator.UndefinedAt.GetValueOrDefault(native.Rip);
        if (HostVendor.IsIntel && TryDecode(generator.Program, native.Rip, out Instruction i))
            undefined |= IntelFaults.Adapt(native, ref guest, i);
        if (native.Vector != guest.Vector || native.Rip != guest.Rip || native.Error != guest.Error || native.Cr2 != guest.Cr2)
        {
            ulong origin = generator.Program.Origin;
            return $"    native {native.Name}({native.Error:X}) at +0x{native.Rip - origin:X} CR2 0x{native.Cr2:X}; guest {guest.Name}({guest.Error:X}) at +0x{guest.Rip - origin:X} CR2 0x{guest.Cr2:X}\n"
                + Comparer.Compare(native.Image, guest.Image, 0, _bits);
        }

        if (native.Vector == Vector.XM)
        {
            // Whether the rounding with an unbounded exponent, which an unmasked overflow or underflow reports, was exact, a run with everything masked does not
            // tell (docs/VECTOR.md).
            const uint OutOfRange = 0x18, Precision = 0x20;
            uint flags = native.Image.Mxcsr;
            if ((flags & ~(flags >> 7) & OutOfRange) != 0)
                guest.Image.Mxcsr = guest.Image.Mxcsr & ~Precision | flags & Precision;
        }

        bool faulted = native.Vector != Outcome.ReachedEnd;
        string? difference = Comparer.Compare(native.Image, guest.Image, undefined, _bits, faulted);
        // What was executed after a jump into an instruction is known to nobody: an AAS, say, that leaves flags undefined.
        return difference != null && !IsAtInstruction(generator.Program, native.Rip) ? Comparer.Compare(native.Image, guest.Image, Rflags.Status, _bits, faulted) : difference;
    }

    // As it stands in memory: the program may have changed it.
    private bool TryDecode(Sequence program, ulong address, out Instruction instruction)
    {
        instruction = default;
        if (address - program.Origin >= (ulong)program.Length)
            return false;
        ReadOnlySpan<byte> now = new((byte*)address, (int)(program.Origin + (ulong)program.Length - address));
        instruction = Iced.Intel.Decoder.Create(_bits, now.ToArray()).Decode();
        return !instruction.IsInvalid;
    }

    private bool IsAtInstruction(Sequence program, ulong address)
    {
        var decoder = Iced.Intel.Decoder.Create(_bits, program.Code(program.Length).ToArray());
        decoder.IP = program.Origin;
        while (decoder.IP < address)
            decoder.Decode();
        return decoder.IP == address;
    }

    private string? CompareMemory(GuestRunner guest, byte* start, byte* end)
    {
        string? difference = Comparer.ComparePage("sandbox", _layout.Sandbox, guest.Guest(_layout.Sandbox), [])
            ?? Comparer.ComparePage("sandbox's second page", _layout.Sandbox + Layout.Page, guest.Guest(_layout.Sandbox + Layout.Page), [])
            ?? Comparer.ComparePage("page behind the sandbox", _layout.Behind, guest.Guest(_layout.Behind), [])
            ?? Comparer.ComparePage("stack", _layout.StackTop, guest.Guest(_layout.StackTop), [])
            ?? Comparer.ComparePage("control", _layout.Control, guest.Guest(_layout.Control), []);
        if (difference != null)
            return difference;
        for (byte* p = start; p < end; p++)
        {
            if (*p != *guest.Guest(p))
                return $"    code +0x{p - start:X}: native {*p:X2}, guest {*guest.Guest(p):X2}\n";
        }

        return null;
    }

    private void FillMemory(XorShift random)
    {
        MachineImage.FillVectors(random, _layout.Sandbox, SavedPages * Layout.Page);
        MachineImage.FillVectors(random, _layout.StackTop, Layout.Page);
        new Span<byte>(_layout.Control, Layout.Page).Clear();
        _layout.FillTable(random);
    }

    /// <summary>The sandbox and the page behind it.</summary>
    private const int SavedPages = Layout.SandboxPages + 1;

    // The sandbox, what the programs keep for themselves, and the stack: in this order, one behind the other.
    private byte[] Save()
    {
        byte[] all = new byte[(SavedPages + 3) * Layout.Page];
        new Span<byte>(_layout.Sandbox, SavedPages * Layout.Page).CopyTo(all);
        new Span<byte>(_layout.Table, 2 * Layout.Page).CopyTo(all.AsSpan(SavedPages * Layout.Page));
        new Span<byte>(_layout.StackTop, Layout.Page).CopyTo(all.AsSpan((SavedPages + 2) * Layout.Page));
        return all;
    }

    /// <summary>Bytes of the ways out behind a program, the longer of both sides.</summary>
    private const int ExitLength = 5;

    /// <summary>Where the last program ended.</summary>
    private byte* _exit;

    private void Load(Sequence program, byte[] memory)
    {
        // Whoever runs into what is left of a former program must not find its way out, which is another on each side.
        if (_exit != null)
        {
            new Span<byte>(_exit, ExitLength).Clear();
            foreach ((string _, GuestRunner guest) in _guests)
                guest.Clear(_exit, ExitLength);
        }

        _exit = (byte*)program.Origin + program.Length;
        ReadOnlySpan<byte> all = memory, code = program.Code(program.Length);
        Put(_layout.Sandbox, all[..(SavedPages * Layout.Page)]);
        Put(_layout.Table, all.Slice(SavedPages * Layout.Page, 2 * Layout.Page));
        Put(_layout.StackTop, all[((SavedPages + 2) * Layout.Page)..]);
        code.CopyTo(new Span<byte>((byte*)program.Origin, code.Length));
        foreach ((string _, GuestRunner guest) in _guests)
            guest.LoadProgram((byte*)program.Origin, code);
    }

    private void Put(byte* to, ReadOnlySpan<byte> bytes)
    {
        bytes.CopyTo(new Span<byte>(to, bytes.Length));
        foreach ((string _, GuestRunner guest) in _guests)
            guest.CopyIn(to, bytes);
    }

    private void Print(Sequence program)
    {
        byte[] bytes = program.Code(program.Length).ToArray();
        var decoder = Decoder.Create(_bits, bytes, program.Origin);
        while (decoder.IP < program.Origin + (ulong)bytes.Length)
        {
            int at = (int)(decoder.IP - program.Origin);
            Instruction i = decoder.Decode();
            _out.WriteLine($"  +{at:X3} {Convert.ToHexString(bytes, at, Math.Min(i.Length, bytes.Length - at)),-24} {i}");
        }

        _out.Flush();
    }
}
