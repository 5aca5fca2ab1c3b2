using Iced.Intel;

namespace VirtPS.Opcodes;

/// <summary>Runs random sequences on both sides and tells where they part.</summary>
internal sealed unsafe partial class Oracle : IDisposable
{
    private readonly Layout _layout = new();
    private readonly NativeRunner _native;
    private readonly GuestRunner _guest;
    private readonly XorShift _random;
    private readonly Generator _generator;
    private readonly Catalog _catalog;
    private readonly Sequence _sequence;
    private readonly byte[] _sandboxBefore = new byte[Layout.SandboxPages * Layout.Page], _stackBefore = new byte[Layout.Page];
    private Code[] _integer, _all;
    private readonly TextWriter _out;
    private readonly int _bits;

    public Oracle(ulong seed, int bits, bool single, VirtPS.Emulation.EngineOptions engine, Catalog catalog, IReadOnlyList<Code> codes, TextWriter output)
    {
        _bits = bits;
        _catalog = catalog;
        _out = output;
        _random = new XorShift(seed);
        _generator = new Generator(_layout, _random, bits);
        _native = new NativeRunner(_layout, HostVectors.Components);
        _guest = new GuestRunner(_layout, engine) { StepSingly = single };
        _sequence = new Sequence(bits);
        _all = [.. codes];
        _integer = [.. codes.Where(ProgramForms.IsInteger)];
        FillTable();
        Refill(_layout.Sandbox, Layout.SandboxPages * Layout.Page);
        Refill(_layout.StackTop, Layout.Page);
    }

    /// <summary>The native side can run in this oracle's mode.</summary>
    public bool IsPossible => _bits == 64 || _native.HasCompatibilityMode();

    public long Instructions { get; private set; }

    public HashSet<Code> Covered { get; } = [];

    public int Differences { get; private set; }

    /// <summary>Faults on the host that were gone when the same sequence ran again: under some hypervisors a valid vector instruction is #UD once in some millions.</summary>
    public int Transient { get; private set; }

    /// <summary>Some form has not differed yet.</summary>
    public bool CanContinue => _all.Length > 0;

    /// <summary>Print each sequence before it runs: to find the one that the native side does not survive.</summary>
    public bool Trace { get; init; }

    /// <summary>One sequence of up to <paramref name="steps"/> instructions under test; false when the sides differ.</summary>
    public bool RunOne(int steps)
    {
        Generate(steps);
        if (_sequence.Steps.Count == 0)
            return true;
        Refill(_layout.Sandbox + _random.Below(32 * Layout.SandboxPages) * 128, 128);
        MachineImage input = default;
        input.Randomize(_random, (ulong)_layout.StackTop + 2048, HostVectors.Components);
        new ReadOnlySpan<byte>(_layout.Sandbox, _sandboxBefore.Length).CopyTo(_sandboxBefore);
        new ReadOnlySpan<byte>(_layout.StackTop, Layout.Page).CopyTo(_stackBefore);
        if (Trace)
            PrintSequence();
        string? difference = RunBoth(input, _sequence.Steps.Count);
        Instructions += _sequence.Steps.Count;
        foreach (Sequence.Step step in _sequence.Steps)
            Covered.Add(step.Instruction.Code);
        if (difference == null)
            return true;
        bool byHost = _native.Faulted, again = Report(input);
        CopyToGuest();
        if (byHost && !again)
        {
            Transient++;
            return true;
        }

        if (!again)
        {
            _out.WriteLine("DIFF that did not repeat");
            _out.Write(difference);
            PrintSequence();
        }

        Differences++;
        return false;
    }

    public void Dispose()
    {
        _guest.Dispose();
        _native.Dispose();
        _layout.Dispose();
    }

    private void PrintSequence()
    {
        foreach (Sequence.Step step in _sequence.Steps)
            _out.WriteLine($"  {step.Instruction.Code}: {step.Instruction}   {Convert.ToHexString(_sequence.Code(step.End)[step.Start..])}");
        _out.WriteLine();
        _out.Flush();
    }

    private void Generate(int steps)
    {
        // One in eight begins so near the end of a page that it goes over it.
        _sequence.Clear((ulong)_layout.Code + (ulong)(_random.OneIn(8) ? Layout.Page - _random.Below(100) : 0));
        if (_all.Length == 0)
            return;
        for (int i = 0; i < steps && !_sequence.Closed; i++)
        {
            Code code = _integer.Length > 0 && _random.OneIn(2) ? _random.Pick<Code>(_integer) : _random.Pick<Code>(_all);
            for (int tries = 0; tries < 8 && !_generator.TryAppend(code, _sequence); tries++)
            {
            }
        }
    }

    private string? RunBoth(in MachineImage input, int steps)
    {
        Sequence.Step last = _sequence.Steps[steps - 1];
        ReadOnlySpan<byte> code = _sequence.Code(last.End);
        *_native.Input = input;
        var start = (byte*)_sequence.Origin;
        _native.Run(start, code, _bits);
        if (Trace)
        {
            _out.WriteLine("  native side done");
            _out.Flush();
        }

        if (_native.Faulted)
            return $"    native: {_native.DescribeFault()}\n";
        if (NativeOnly)
            return RunAgain(start, code, last);
        string? failure = _guest.Run(start, code, _bits, input, out MachineImage guest);
        if (failure != null)
            return $"    guest: {failure}\n";
        IReadOnlyList<(ulong, int)> ignored = steps == _sequence.Steps.Count ? _sequence.Ignored : [];
        return Comparer.Compare(*_native.Output, guest, last.UndefinedFlags, _bits)
            ?? Comparer.ComparePage("sandbox", _layout.Sandbox, _guest.Guest(_layout.Sandbox), ignored)
            ?? Comparer.ComparePage("sandbox's second page", _layout.Sandbox + Layout.Page, _guest.Guest(_layout.Sandbox + Layout.Page), ignored)
            ?? Comparer.ComparePage("stack", _layout.StackTop, _guest.Guest(_layout.StackTop), ignored);
    }

    /// <summary>Runs ever longer beginnings of the sequence to find the first instruction after which the sides differ; false: now they agree.</summary>
    private bool Report(in MachineImage input)
    {
        for (int steps = 1; steps <= _sequence.Steps.Count; steps++)
        {
            _sandboxBefore.CopyTo(new Span<byte>(_layout.Sandbox, _sandboxBefore.Length));
            _stackBefore.CopyTo(new Span<byte>(_layout.StackTop, Layout.Page));
            CopyToGuest();
            string? difference = RunBoth(input, steps);
            if (difference == null)
                continue;
            Sequence.Step step = _sequence.Steps[steps - 1];
            _out.WriteLine($"DIFF {step.Instruction.Code}: {step.Instruction}   [+0x{step.Start:X}: {Convert.ToHexString(_sequence.Code(step.End)[step.Start..])}]");
            _out.Write(difference);
            // One report per form; without it the others come to light in the same run.
            _all = [.. _all.Where(c => c != step.Instruction.Code)];
            _integer = [.. _integer.Where(c => c != step.Instruction.Code)];
            return true;
        }

        return false;
    }

    private void Refill(byte* native, int size)
    {
        MachineImage.FillVectors(_random, native, size);
        _guest.CopyIn(native, new ReadOnlySpan<byte>(native, size));
    }

    private void CopyToGuest()
    {
        _guest.CopyIn(_layout.Sandbox, new ReadOnlySpan<byte>(_layout.Sandbox, _sandboxBefore.Length));
        _guest.CopyIn(_layout.StackTop, new ReadOnlySpan<byte>(_layout.StackTop, Layout.Page));
    }

    private void FillTable()
    {
        _layout.FillTable(_random);
        Buffer.MemoryCopy(_layout.Table, _guest.Guest(_layout.Table), Layout.Page, Layout.Page);
    }

    /// <summary>Forms of which no instance was ever encoded.</summary>
    public IEnumerable<Code> NeverSeen() => _catalog.Codes.Where(c => !Covered.Contains(c));
}
