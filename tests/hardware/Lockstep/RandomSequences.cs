using Iced.Intel;
using VirtPS.Opcodes;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;

namespace VirtPS.Lockstep;

/// <summary>The opcode oracle's random instructions, with the addresses that it gives them mapped to the guest's upper RAM.</summary>
internal sealed unsafe class RandomSequences : IDisposable
{
    // Two page tables (the addresses may cross a 2 MiB boundary), then the pages.
    private const ulong Tables = 0x20_0000, Pages = 0x21_0000;
    private const int Steps = 6;

    // The operands depend on it, and so do the tries that the generator makes.
    private const nint Place = 0x5000_0000;

    private readonly Layout _layout = new(Place);
    private readonly XorShift _random;
    private readonly Generator _generator;
    private readonly Sequence _sequence = new(64);
    private readonly Code[] _codes;

    /// <param name="seed">What they are made from: the same on every host.</param>
    /// <param name="only">Of the instructions that are expected to agree, these.</param>
    public RandomSequences(ulong seed, IReadOnlyCollection<Mnemonic>? only = null)
    {
        if ((nint)_layout.Base != Place)
            throw new InvalidOperationException($"The place of the sequences, 0x{Place:X}, is taken.");
        _random = new XorShift(seed);
        _generator = new Generator(_layout, _random, 64) { IsLeftOut = DiffersOnQemu };
        _codes = [.. new Catalog(64).Codes.Where(c => !IsBeyondQemu(c) && !IsLeftToTheHost(c) && !DiffersOnQemu(c) && only?.Contains(c.Mnemonic()) != false)];
        _layout.FillTable(_random);
    }

    /// <summary>
    /// What two processors may answer differently: approximations, transcendental functions, counters, and what x87 keeps of its last instruction. And MMX and the loads of x87's control word and status, which
    /// QEMU's processor does otherwise by itself (<see cref="KnownDifferences"/>). The host's own processor judges all of them in tests/opcodes.
    /// </summary>
    private static bool IsLeftToTheHost(Code code) => UsesMmx(code) || code.Mnemonic() is Mnemonic.Rcpps or Mnemonic.Rcpss or Mnemonic.Rsqrtps or Mnemonic.Rsqrtss or Mnemonic.Vrcpps or Mnemonic.Vrcpss or Mnemonic.Vrsqrtps
        or Mnemonic.Vrsqrtss or Mnemonic.Fsin or Mnemonic.Fcos or Mnemonic.Fsincos or Mnemonic.Fptan or Mnemonic.Fpatan or Mnemonic.Fyl2x or Mnemonic.Fyl2xp1 or Mnemonic.F2xm1 or Mnemonic.Fprem or Mnemonic.Fprem1
        or Mnemonic.Cpuid or Mnemonic.Rdtsc or Mnemonic.Rdtscp or Mnemonic.Rdrand or Mnemonic.Rdseed or Mnemonic.Xgetbv or Mnemonic.Fxsave or Mnemonic.Fxsave64 or Mnemonic.Fnsave or Mnemonic.Fnstenv
        or Mnemonic.Fldcw or Mnemonic.Fldenv or Mnemonic.Frstor or Mnemonic.Fxrstor or Mnemonic.Fxrstor64;

    /// <summary>What QEMU's emulated processor does otherwise by itself: each has its case in <see cref="KnownDifferences"/>, but for PAUSE, behind which it loses a step (BareQemuTests).</summary>
    private static bool DiffersOnQemu(Code code) => code is Code.Test_rm8_imm8_F6r1 or Code.Test_rm16_imm16_F7r1 or Code.Test_rm32_imm32_F7r1 or Code.Test_rm64_imm32_F7r1 or Code.Adox_r32_rm32 or Code.Adcx_r32_rm32
        || code.Mnemonic() is Mnemonic.Fcomi or Mnemonic.Fcomip or Mnemonic.Fucomi or Mnemonic.Fucomip or Mnemonic.Pause or Mnemonic.Bsf or Mnemonic.Bsr or Mnemonic.Blsi;

    /// <summary>The same, of instructions that agree with other operands: SHLD and SHRD with an immediate, relative to RIP; a gather by register 4; the first four NOPs of 0F 18 with a register.</summary>
    private static bool DiffersOnQemu(Instruction i) => (i.Mnemonic is Mnemonic.Shld or Mnemonic.Shrd && i.Op2Kind == OpKind.Immediate8 && i.IsIPRelativeMemoryOperand)
        || (i.IsVsib && i.MemoryIndex.GetNumber() == 4)
        || (i.Code is Code.Reservednop_rm16_r16_0F18 or Code.Reservednop_rm32_r32_0F18 or Code.Reservednop_rm64_r64_0F18 && i.Op0Kind == OpKind.Register && (i.Op1Register.GetNumber() & 7) < 4);

    /// <summary>Features that it lacks. Without them the sequences of a seed are the same on every host.</summary>
    private static bool IsBeyondQemu(Code code) => HostVectors.IsWide(code) || code.CpuidFeatures().Any(f => f is CpuidFeature.GFNI or CpuidFeature.VAES or CpuidFeature.VPCLMULQDQ or CpuidFeature.AVX_VNNI or CpuidFeature.SHA or CpuidFeature.CLWB or CpuidFeature.SERIALIZE or CpuidFeature.MOVDIRI or CpuidFeature.MOVDIR64B or CpuidFeature.HLE_or_RTM);

    private static bool UsesMmx(Code code) => Enumerable.Range(0, code.ToOpCode().OpCount).Any(k => code.ToOpCode().GetOpKind(k) is OpCodeOperandKind.mm_reg or OpCodeOperandKind.mm_rm or OpCodeOperandKind.mm_or_mem)
        || code.Mnemonic() == Mnemonic.Emms;

    /// <summary>The next sequence, compared after each of its instructions; null when both agree.</summary>
    public string? RunOne(LockstepRun run)
    {
        Prepare(run);
        var comparer = Comparer();
        // Undefined flags grow with the steps: those of the whole sequence are left out from its first instruction that has any.
        string? difference = run.Run(64 * Steps, comparer, _sequence.Origin + (ulong)_sequence.Length, _ => comparer.UndefinedFlags = UndefinedAt(run.Ours.State->Rip));
        return difference is null ? null : $"{difference} in {string.Join("; ", _sequence.Steps.Select(s => s.Instruction.ToString()))}";
    }

    /// <summary>Accessed bits may be set for what is not needed (SDM Vol. 3A §4.8), so page tables are not compared.</summary>
    private static StateComparer Comparer()
    {
        var comparer = new StateComparer { Vectors = true };
        comparer.Ignore(ConformanceMachine.Pml4, 0x7000);
        comparer.Ignore(Tables, 0x2000);
        return comparer;
    }

    private void Prepare(LockstepRun run)
    {
        MachineImage image = Next();
        run.Both(m => Load(m, image));
    }

    private MachineImage Next()
    {
        _sequence.Clear((ulong)_layout.Code + (ulong)(_random.OneIn(8) ? Layout.Page - _random.Below(60) : 0));
        while (_sequence.Steps.Count < Steps && !_sequence.Closed)
            _generator.TryAppend(_random.Pick<Code>(_codes), _sequence);
        _sequence.Code(_sequence.Length).CopyTo(new Span<byte>((byte*)_sequence.Origin, _sequence.Length));
        MachineImage.FillVectors(_random, _layout.Sandbox, Layout.SandboxPages * Layout.Page);
        MachineImage.FillVectors(_random, _layout.StackTop, Layout.Page);
        MachineImage image = default;
        image.Randomize(_random, (ulong)_layout.StackTop + 2048);
        return image;
    }

    /// <summary>Undefined behind the instruction at <paramref name="rip"/>: those of its step, and while that is under way those of the one before too.</summary>
    private ulong UndefinedAt(ulong rip)
    {
        ulong before = 0;
        foreach (Sequence.Step step in _sequence.Steps)
        {
            if (rip < _sequence.Origin + (ulong)step.End)
                return before | step.UndefinedFlags;
            before = step.UndefinedFlags;
        }

        return before;
    }

    private void Load(ConformanceMachine machine, in MachineImage image)
    {
        machine.EnterLongMode(_ => { });
        ulong first = (ulong)_layout.Base;
        for (ulong i = 0; i < 2; i++)
            machine.Write64(PageDirectory + ((first >> 21) + i) * 8, Tables + i * 0x1000 | 7);
        for (ulong page = 0; page < Layout.Pages; page++)
        {
            ulong linear = first + page * Layout.Page, gpa = Pages + page * Layout.Page;
            // The guest has the same holes, and the same page that cannot be written.
            bool isHole = linear == (ulong)_layout.CodeHole || linear == (ulong)_layout.Hole;
            machine.Write64(Tables + ((linear >> 12) - (first >> 21 << 9)) * 8, isHole ? 0 : gpa | (linear == (ulong)_layout.ReadOnly ? 5u : 7u));
            if (isHole)
                continue;
            machine.Write(gpa, new ReadOnlySpan<byte>((byte*)linear, Layout.Page));
        }

        VcpuState* s = machine.State;
        s->Cr4 |= Cr4.OSXSAVE;
        s->Xcr0 = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx;
        fixed (MachineImage* i = &image)
        {
            new ReadOnlySpan<ulong>(i->Gpr, 16).CopyTo(new Span<ulong>(s->Gpr, 16));
            new ReadOnlySpan<byte>(i->Xsave, VcpuState.AvxXsaveSize).CopyTo(new Span<byte>(s->Xsave, VcpuState.AvxXsaveSize));
        }

        // Nobody is there to be interrupted by.
        s->Rflags = image.Flags & ~Rflags.IF;
        s->Rip = _sequence.Origin;
        machine.Vcpu.CommitState();
    }

    private const ulong PageDirectory = ConformanceMachine.PageDirectory;

    public void Dispose() => _layout.Dispose();
}
