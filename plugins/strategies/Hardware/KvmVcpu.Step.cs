using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

// One instruction at a time, exactly: what the processor's trap flag alone would hide is stopped at, and what it would leave behind is taken away.
internal sealed unsafe partial class KvmVcpu
{
    private readonly KvmStepTraps _traps;
    private KvmStepTraps.Entry? _trapped;

    /// <summary>The external interrupt that <see cref="InjectInterrupt"/> gave to KVM and the guest has not yet taken; -1 for none.</summary>
    private int _injected = -1;

    /// <summary>
    /// One instruction, or the delivery of one event. Every entry into a handler ends a step at the handler's first instruction; so the ring transitions seen this way are all there are. A string
    /// instruction with a repeat prefix takes one step per iteration, and one that loads SS takes the next one with it, as the trap flag does. The other vCPUs must stand still.
    /// </summary>
    public VcpuExit SingleStep()
    {
        BindThread();
        SynchronizeState();
        Step step = Begin();
        int vector = step.Pending.IsPending ? step.Pending.Vector : step.Injected >= 0 ? step.Injected : step.Opcode == Opcode.Interrupt ? step.Vector : -1;
        _traps.Arm(_state, step.LinearRip, vector, anyVector: LocalApic is not null);
        // KVM answers some writes to its local APIC on its fast path, which forgets the step before Linux 6.11: the next instruction is stopped at too.
        if (step.Opcode == Opcode.WriteMsr && LocalApic is not null)
            _traps.ArmAlso(_state, step.LinearRip + WriteMsrLength, step.Rip + WriteMsrLength);
        VcpuExit exit;
        try
        {
            SetDebug(Kvm.GuestDebugEnable | Kvm.GuestDebugSingleStep);
            exit = Enter(step: true);
            // A kick may come when the handler has been entered and its first instruction, the trap, has not yet been executed.
            if (exit is VcpuExit.Kicked or VcpuExit.InterruptWindow && StandsAtTrap())
                exit = VcpuExit.SingleStep;
        }
        finally
        {
            _traps.Disarm();
        }

        // What KVM has told of the failure is all there is.
        if (exit == VcpuExit.Failed)
            return exit;
        if (exit is VcpuExit.SingleStep or VcpuExit.Halt)
            End(step);
        else
            Undo(step);
        SetDebug(0);
        // KVM's instruction emulator forgets that it has halted when it is stepped (and says so one instruction late, which Dispatch overhears).
        if (exit == VcpuExit.SingleStep && step.Opcode == Opcode.Halt && _trapped is null && LocalApic is null && _state->Rip != step.Rip)
        {
            _state->MpState = MpState.Halted;
            return VcpuExit.Halt;
        }

        return exit;
    }

    private enum Opcode
    {
        Other,
        Syscall,
        Sysret,
        Sysenter,
        Sysexit,
        Iret,
        FarReturn,
        FarCall,
        Interrupt,
        PushFlags,
        WriteMsr,
        Halt,
    }

    private const uint WriteMsrLength = 2;

    /// <summary>CS base + RIP at the step's begin.</summary>
    private ulong _stepRip;

    /// <summary>CS base + RIP; the state is the guest's present one.</summary>
    private ulong LinearRip => _state->IsLongMode && _state->CS.IsLong ? _state->Rip : (uint)(_state->CS.Base + _state->Rip);

    /// <summary>It is a HLT.</summary>
    private bool _stepHalts;

    /// <summary>
    /// An access was answered in the middle of a step: KVM finishes its instruction now. After some (emulated OUT, stores to MMIO) it forgets to report the step, so that the place tells
    /// whether it is over. Null when it is not: a repeated instruction goes on.
    /// </summary>
    private VcpuExit? FinishStepped()
    {
        CompletePending();
        SynchronizeState();
        ulong linear = LinearRip;
        return linear != _stepRip ? VcpuExit.SingleStep : null;
    }

    /// <summary>What stood before a step.</summary>
    private readonly record struct Step(
        ulong LinearRip, ulong Rip, byte Cpl, CpuMode Mode, ulong Rflags, ulong R11, Opcode Opcode, int Vector, bool WordPrefix, PendingEvent Pending, int Injected);

    private Step Begin()
    {
        VcpuState* s = _state;
        ulong linear = LinearRip;
        (Opcode opcode, int vector, bool word) = Decode(linear);
        (_stepRip, _stepHalts) = (linear, opcode == Opcode.Halt);
        var step = new Step(linear, s->Rip, s->Cpl, s->Mode, s->Rflags, s->Gpr[(int)Gpr.R11], opcode, vector, word, s->Pending, _injected);
        _trapped = null;
        // SYSRET takes RFLAGS from R11: without the trap flag there, the step would end somewhere later.
        if (opcode == Opcode.Sysret)
        {
            s->Gpr[(int)Gpr.R11] |= Rflags.TF;
            CommitState();
        }

        return step;
    }

    /// <summary>The step did not come to its end: what <see cref="Begin"/> did to a SYSRET's R11 is taken back.</summary>
    private void Undo(in Step step)
    {
        if (step.Opcode != Opcode.Sysret)
            return;
        SynchronizeState();
        _state->Gpr[(int)Gpr.R11] = step.R11;
        CommitState();
    }

    /// <summary>Takes the debugger's trap flag out of what the guest has stored of its flags, and records the transition.</summary>
    private void End(in Step step)
    {
        SynchronizeState();
        _injected = -1;
        VcpuState* s = _state;
        bool own = (step.Rflags & Rflags.TF) != 0;
        if (_trapped is { } entry)
        {
            s->Rip = entry.Rip;
            CommitState();
            if (!own && entry.Vectors.Count > 0)
                ClearTrapFlag((ulong)(entry.SlotSize * (HasErrorCode(step, entry) ? 3 : 2)));
        }

        ulong* r11 = &s->Gpr[(int)Gpr.R11];
        if (step.Opcode == Opcode.Syscall && _trapped is not { Vectors.Count: > 0 } && !own && (*r11 & Rflags.TF) != 0)
        {
            *r11 &= ~Rflags.TF;
            CommitState();
        }
        else if (step.Opcode == Opcode.Sysret && *r11 != step.R11)
        {
            *r11 = step.R11;
            CommitState();
        }
        else if (step.Opcode == Opcode.PushFlags && _trapped is null && !own)
        {
            ClearTrapFlag(0);
        }

        if (Trace is { } trace)
            Record(trace, step);
    }

    private bool HasErrorCode(in Step step, KvmStepTraps.Entry entry) =>
        _state->IsProtected && CauseOf(step, entry) == RingCause.Exception && VectorOf(step, entry) is Vector.DF or (>= Vector.TS and <= Vector.PF) or Vector.AC or Vector.CP;

    private void ClearTrapFlag(ulong fromStackPointer)
    {
        ulong offset = _state->Gpr[(int)Gpr.Rsp] + fromStackPointer + 1;
        ulong linear = _state->IsLongMode && _state->CS.IsLong ? offset
            : (uint)(_state->SS.Base + (_state->SS.IsDefault32 ? (uint)offset : (ushort)offset));
        if (KvmPageWalk.TryTranslate(_partition, _state, linear, out ulong gpa) && _partition.Find(gpa) is var p && p is not null)
            *p &= unchecked((byte)~(Rflags.TF >> 8));
    }

    private static RingCause CauseOf(in Step step, KvmStepTraps.Entry entry)
    {
        if (step.Pending.IsPending)
        {
            return step.Pending.Kind switch
            {
                EventKind.ExternalInterrupt => RingCause.Interrupt,
                EventKind.Nmi => RingCause.Nmi,
                EventKind.SoftwareInterrupt => RingCause.SoftwareInterrupt,
                _ => RingCause.Exception,
            };
        }

        if (step.Injected >= 0 && entry.Vectors.Contains(step.Injected))
            return RingCause.Interrupt;
        if (step.Opcode == Opcode.Interrupt && entry.Vectors.Contains(step.Vector))
            return RingCause.SoftwareInterrupt;
        return entry.Vectors.Contains(Vector.NMI) ? RingCause.Nmi : entry.Vectors[0] < 32 ? RingCause.Exception : RingCause.Interrupt;
    }

    /// <summary>Known by the gate, unless several lead to one handler: then by what the instruction or we asked for.</summary>
    private static int VectorOf(in Step step, KvmStepTraps.Entry entry) =>
        step.Pending.IsPending ? step.Pending.Vector
        : step.Injected >= 0 && entry.Vectors.Contains(step.Injected) ? step.Injected
        : step.Opcode == Opcode.Interrupt && entry.Vectors.Contains(step.Vector) ? step.Vector
        : entry.Vectors[0];

    private void Record(RingEventBuffer trace, in Step step)
    {
        VcpuState* s = _state;
        RingCause? cause = _trapped is { Vectors.Count: > 0 } entry ? CauseOf(step, entry)
            : step.Opcode switch
            {
                Opcode.Syscall => RingCause.Syscall,
                Opcode.Sysret => RingCause.Sysret,
                Opcode.Sysenter => RingCause.Sysenter,
                Opcode.Sysexit => RingCause.Sysexit,
                Opcode.Iret => RingCause.Iret,
                Opcode.FarReturn => RingCause.FarReturn,
                Opcode.FarCall when s->Cpl != step.Cpl => RingCause.CallGate,
                _ => s->Cpl != step.Cpl ? RingCause.TaskSwitch : null,
            };
        if (cause is not { } known || (s->Cpl == step.Cpl && !trace.IncludeSameRing))
            return;
        int vector = _trapped is { Vectors.Count: > 0 } handler ? VectorOf(step, handler) : 0;
        ulong machineTsc = _host.ReadMachineTsc();
        trace.Write(new RingEvent
        {
            Tsc = machineTsc + s->TscOffset,
            FromRip = step.Rip,
            ToRip = s->Rip,
            Detail = known == RingCause.Syscall ? s->Gpr[(int)Gpr.Rax] : 0,
            Nanoseconds = (ulong)((UInt128)machineTsc * 1_000_000_000 / Math.Max(1, _partition.Options.TscFrequency)),
            Vector = (ushort)vector,
            Cause = known,
            FromRing = step.Cpl,
            ToRing = s->Cpl,
            FromMode = step.Mode,
            ToMode = s->Mode,
            Vcpu = (byte)Index,
        });
    }

    /// <summary>Tells apart the instructions that change rings or store flags; prefixes are skipped. What cannot be read is <see cref="Opcode.Other"/>: it faults.</summary>
    private (Opcode Opcode, int Vector, bool WordPrefix) Decode(ulong linear)
    {
        Span<byte> code = stackalloc byte[15];
        int length = ReadCode(linear, code), at = 0;
        bool word = false, wide = _state->IsLongMode && _state->CS.IsLong;
        while (at < length && (code[at] is 0x66 or 0x67 or 0xF0 or 0xF2 or 0xF3 or 0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65 || (wide && code[at] is >= 0x40 and <= 0x4F)))
            word |= code[at++] == 0x66;
        byte first = at < length ? code[at] : (byte)0x90, second = at + 1 < length ? code[at + 1] : (byte)0;
        return first switch
        {
            0x0F => (second switch { 0x05 => Opcode.Syscall, 0x07 => Opcode.Sysret, 0x30 => Opcode.WriteMsr, 0x34 => Opcode.Sysenter, 0x35 => Opcode.Sysexit, _ => Opcode.Other }, 0, word),
            0x9C => (Opcode.PushFlags, 0, word),
            0xF4 => (Opcode.Halt, 0, word),
            0xCF => (Opcode.Iret, 0, word),
            0xCA or 0xCB => (Opcode.FarReturn, 0, word),
            0x9A or 0xEA => (Opcode.FarCall, 0, word),
            0xFF when (second >> 3 & 7) is 3 or 5 => (Opcode.FarCall, 0, word),
            0xCC => (Opcode.Interrupt, Vector.BP, word),
            0xCD => (Opcode.Interrupt, second, word),
            0xCE => (Opcode.Interrupt, Vector.OF, word),
            0xF1 => (Opcode.Interrupt, Vector.DB, word),
            _ => (Opcode.Other, 0, word),
        };
    }

    /// <summary>Whether the step, which began elsewhere, has come to a handler's first instruction: then it is over.</summary>
    private bool StandsAtTrap()
    {
        SynchronizeState();
        _trapped = _traps.StandingAt(LinearRip);
        return _trapped is not null;
    }

    /// <summary>True when the OUT that KVM asks to carry out is one of ours: the step ends there.</summary>
    private bool IsTrap()
    {
        if (!_traps.IsArmed || _run->IoDirection != Kvm.IoOut)
            return false;
        SynchronizeState();
        ulong linear = LinearRip;
        _trapped = _traps.At(linear, _run->IoPort);
        // KVM finishes the OUT with the next entry, which CompletePending makes.
        _ioPending = _trapped is not null;
        return _ioPending;
    }
}
