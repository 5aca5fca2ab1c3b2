using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;

namespace VirtPS.Lockstep;

/// <summary>
/// The same guest under two strategies, one instruction at a time on each in turn; after every one the whole state is compared, at the end all memory. <c>ours</c> is the software engine,
/// <c>theirs</c> the processor under KVM.
/// </summary>
public sealed unsafe class LockstepRun : IDisposable
{
    // A repeated string instruction takes one step per iteration under KVM.
    private const int MaxIterations = 4096;

    public LockstepRun(IStrategy ours, IStrategy theirs)
    {
        Ours = new ConformanceMachine(ours);
        try
        {
            Theirs = new ConformanceMachine(theirs);
        }
        catch
        {
            Ours.Dispose();
            throw;
        }
    }

    public ConformanceMachine Ours { get; }

    public ConformanceMachine Theirs { get; }

    /// <summary>Theirs stores RFLAGS.RF as 0 where a fault must store 1 (SDM Vol. 3A §6.8.3): that one bit of a frame is made equal.</summary>
    public bool NoResumeFlag { get; init; }

    /// <summary>Instructions compared.</summary>
    public int Steps { get; private set; }

    /// <summary>Does the same to both.</summary>
    public void Both(Action<ConformanceMachine> action)
    {
        action(Ours);
        action(Theirs);
    }

    /// <summary>Steps both until they halt, at most <paramref name="limit"/> instructions, or until RIP is <paramref name="end"/>; null when they agreed all the way, else where they part.</summary>
    public string? Run(int limit, StateComparer comparer, ulong? end = null, Action<int>? beforeStep = null)
    {
        for (int i = 0; i < limit && Ours.State->Rip != end; i++)
        {
            beforeStep?.Invoke(i);
            (ulong rip, string code) = Place(Ours);
            bool delays = DelaysTrap(code);
            VcpuExit theirs = StepTheirs(rip, code), ours = StepOurs();
            // The trap flag waits for one more instruction behind a load of SS (SDM Vol. 3A §6.8.3); emulated processors do so behind STI too.
            if (delays && ours == VcpuExit.SingleStep && Ours.State->Rip != Theirs.State->Rip)
                ours = StepOurs();
            // Ours takes an iteration at a time too, or all of them: what counts is where they meet.
            for (int n = 0; n < MaxIterations && ours == VcpuExit.SingleStep && Ours.State->Rip == rip && Theirs.State->Rip != rip; n++)
                ours = StepOurs();
            if (NoResumeFlag)
                ForgiveResumeFlag();
            Steps++;
            string? difference = ours != theirs ? $"exit {ours}, KVM {theirs}{(theirs == VcpuExit.Failed ? ": " + Theirs.Host.Failure : "")}" : comparer.Compare(Ours.State, Theirs.State);
            if (difference is not null)
                return $"step {i + 1} at 0x{rip:X} ({code}): {difference}";
            if (ours != VcpuExit.SingleStep)
                return ours is VcpuExit.Halt or VcpuExit.Shutdown ? Memory(comparer) : $"step {i + 1} at 0x{rip:X} ({code}): both {ours}";
        }

        return Memory(comparer);
    }

    private void ForgiveResumeFlag()
    {
        ulong rsp = Ours.State->Gpr[(int)Gpr.Rsp];
        foreach (ulong slot in (ReadOnlySpan<ulong>)[16, 24])
        {
            if (rsp + slot + 8 <= ConformanceMachine.RamSize && Ours.Memory.TryRead(rsp + slot, out ulong ours) && Theirs.Memory.TryRead(rsp + slot, out ulong theirs) && (ours ^ theirs) == Rflags.RF)
                Ours.Write64(rsp + slot, theirs);
        }
    }

    private VcpuExit StepOurs()
    {
        VcpuExit exit = Ours.Vcpu.SingleStep();
        Ours.Vcpu.SynchronizeState();
        return exit;
    }

    private VcpuExit StepTheirs(ulong rip, string code)
    {
        bool repeats = code.StartsWith("F2", StringComparison.Ordinal) || code.StartsWith("F3", StringComparison.Ordinal) || code[..4].Contains("F3", StringComparison.Ordinal);
        VcpuExit exit;
        int n = 0;
        do
        {
            exit = Theirs.Vcpu.SingleStep();
            Theirs.Vcpu.SynchronizeState();
        }
        while (repeats && exit == VcpuExit.SingleStep && Theirs.State->Rip == rip && ++n < MaxIterations);

        return exit;
    }

    private static bool DelaysTrap(string code) => code.StartsWith("FB", StringComparison.Ordinal) || code.StartsWith("8ED", StringComparison.Ordinal) || code.StartsWith("17", StringComparison.Ordinal) || code.Contains("0FB2", StringComparison.Ordinal);

    private static (ulong Rip, string Code) Place(ConformanceMachine machine)
    {
        VcpuState* s = machine.State;
        ulong linear = s->IsLongMode && s->CS.IsLong ? s->Rip : (uint)(s->CS.Base + s->Rip);
        var bytes = new byte[8];
        return (s->Rip, machine.Vcpu.TryTranslate(linear, out ulong gpa) && machine.Memory.TryRead(gpa, bytes) ? Convert.ToHexString(bytes) : "????");
    }

    private string? Memory(StateComparer comparer)
    {
        var ours = new byte[4096];
        var theirs = new byte[4096];
        for (ulong page = 0; page < ConformanceMachine.RamSize; page += 4096)
        {
            if (!Ours.Memory.TryRead(page, ours) || !Theirs.Memory.TryRead(page, theirs))
                return $"no memory at 0x{page:X}";
            for (int i = 0; i < 4096; i++)
            {
                if (ours[i] != theirs[i] && !comparer.IsIgnored(page + (ulong)i))
                    return $"memory at 0x{page + (ulong)i:X}: {ours[i]:X2}, KVM {theirs[i]:X2}";
            }
        }

        return null;
    }

    public void Dispose()
    {
        Ours.Dispose();
        Theirs.Dispose();
    }
}
