using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

// A guest whose kernel runs in ring 3: what would enter ring 0 goes to the supervisor in the VMM (docs/CONTRACTS.md). The kernel's translations live in the supervisor views, which
// such a guest does not use otherwise, the user's in the user views: each is filled under its own CR3 only, so that going from one to the other drops nothing.
public sealed unsafe partial class SoftVcpu : IDeprivilegedVcpu
{
    private IGuestSupervisor? _supervisor;

    public IGuestSupervisor? Supervisor
    {
        get => _supervisor;
        set
        {
            _supervisor = value;
            _decoder.SyscallReturns = value is not null;
        }
    }

    /// <summary>The ring that the guest believes: CPL, or what the supervisor says.</summary>
    internal byte GuestRing => S->GuestKernel != 0 ? (byte)0 : S->Cpl;

    CpuidResult IDeprivilegedVcpu.Cpuid(uint leaf, uint subLeaf) => Cpuid(leaf, subLeaf);

    ulong IDeprivilegedVcpu.GuestTsc => GuestTsc;

    /// <summary>SYSCALL under a supervisor. Also what generated code calls: no exception, no allocation, the block is left only where the supervisor changed more than registers.</summary>
    internal bool SupervisorCall(IGuestSupervisor supervisor, ulong next)
    {
        ulong rip = S->Rip;
        S->Rflags = GetFlags();
        S->Rip = next;
        SupervisorEffect effect = supervisor.SystemCall(S);
        if (effect == SupervisorEffect.None)
            S->Rip = rip;
        else
            Apply(effect);
        return true;
    }

    /// <summary>An exception, or INT n with <paramref name="next"/> behind it.</summary>
    private bool SupervisorTrap(IGuestSupervisor supervisor, in GuestEvent e, ulong next)
    {
        S->Rflags = GetFlags();
        ulong rip = S->Rip;
        S->Rip = next;
        S->InterruptShadow = InterruptShadow.None;
        if (e.Kind == EventKind.HardwareException)
            FinishException(e.Vector);
        Apply(supervisor.Trap(S, new GuestTrap(e.Vector, e.Kind, e.HasError, e.Error) { InstructionRip = rip }) | SupervisorEffect.Rip);
        return S->MpState != MpState.Shutdown;
    }

    private void SupervisorEvent(IGuestSupervisor supervisor)
    {
        S->Rflags = GetFlags();
        SupervisorEffect effect = supervisor.Event(S);
        if (effect != SupervisorEffect.None)
            Apply(effect);
        N->RipSet = 0;
    }

    private void Apply(SupervisorEffect effect)
    {
        if ((effect & SupervisorEffect.Flags) != 0)
            N->SetStatusFlags(S->Rflags);
        if ((effect & SupervisorEffect.Mode) != 0)
        {
            UpdateDebugActive();
            ModeChanged();
        }

        N->RipSet = 1;
        N->Leave = 1;
    }

    public byte* GuestPointer(ulong linear, int size, bool write)
    {
        TlbEntry* e = Tlb.Entry(_views[ViewSupervisor].Entries, linear);
        if (Tlb.Hit(write ? e->WriteTag : e->ReadTag, linear, size))
            return (byte*)(linear + e->Addend);
        if ((linear & 0xFFF) + (ulong)size > 0x1000 || !IsCanonical(linear))
            return null;
        Target target;
        bool found = write ? WriteTarget(linear, size, ViewSupervisor, out target) : ReadTarget(linear, ViewSupervisor, out target);
        return found ? target.Host : null;
    }

    public void FlushTranslations() => FlushTlb(global: true);

    public void FlushTranslationsKeepingCode() => FlushTlb(global: true, keepCode: true);

    public void FlushLowerHalf() => FlushTlb(global: false);

    /// <summary>Which translations <see cref="FlushLowerHalf"/> keeps.</summary>
    private bool IsKernelHalf(ulong linear, int view) => _supervisor is not null && (long)linear < 0 && !IsUserView(view);

    public void FlushTranslation(ulong linear) => FlushTlbPage(linear);

    public void FlushOthers(ulong vcpus)
    {
        int before = EnterHost();
        foreach (SoftVcpu v in Partition.Vcpus)
        {
            if (v != this && (vcpus >> v.Index & 1) != 0)
                v.RequestFlush(RequestFlushTlb);
        }

        foreach (SoftVcpu v in Partition.Vcpus)
        {
            if (v != this && (vcpus >> v.Index & 1) != 0)
                v.WaitFlushed();
        }

        LeaveHost(before);
    }

    public void RevokeWrites(ulong gpa)
    {
        if (FindSlot(gpa) is not { } slot)
            return;
        PageInfo* info = slot.Pages + ((gpa - slot.Gpa) >> 12);
        uint writers;
        lock (Partition.CodeLock)
        {
            writers = Interlocked.Exchange(ref info->Writers, 0);
            // As in ProtectCode: bits that another vCPU has taken and still waits for are ours to wait for, too.
            if (Partition.WaitingForWriters != 0)
                writers = uint.MaxValue;
            Partition.WaitingForWriters++;
        }

        if ((writers & WriterBit) != 0)
        {
            _tlbChanges++;
            for (int i = 0; i < ViewCodeUser; i++)
                _views[i].RevokeWrites(gpa & ~0xFFFul);
        }

        ulong others = 0;
        foreach (SoftVcpu v in Partition.Vcpus)
            others |= v != this && (writers & v.WriterBit) != 0 ? 1ul << v.Index : 0;
        if (others != 0)
            FlushOthers(others);
        lock (Partition.CodeLock)
            Partition.WaitingForWriters--;
    }

    public int BeginWait() => EnterHost();

    public void EndWait(int token) => LeaveHost(token);

    public void RecordTransfer(ulong fromRip, int fromRing, RingCause cause, int vector, ulong detail) =>
        RecordTransfer(new RingMark(fromRip, (byte)fromRing, S->Mode), cause, vector, detail);

    public void RecordHypercall(ulong fromRip, int number, ulong first, ulong second)
    {
        Counters->Transitions[(int)RingCause.Hypercall]++;
        Counters->Hypercalls[Math.Min((uint)number, RingCounters.HypercallCount - 1)]++;
        if (_trace is { } trace)
            Write(trace, new RingMark(fromRip, GuestRing, S->Mode), RingCause.Hypercall, number, first, second);
    }
}
