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

    // Far more than any step takes, also under emulation with all of its iterations.
    private static readonly TimeSpan s_stepLimit = TimeSpan.FromSeconds(5);

    private readonly Timer _watchdog;
    private volatile bool _late;

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

        _watchdog = new Timer(_ =>
        {
            _late = true;
            Both(Kick);
        });
    }

    private static void Kick(ConformanceMachine machine)
    {
        Interlocked.Or(ref machine.State->Requests, (uint)VcpuRequests.Exit);
        machine.Vcpu.Kick();
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

    /// <summary>
    /// Steps both until they halt, at most <paramref name="limit"/> instructions, or until RIP is <paramref name="end"/>; null when they agreed all the way, else where they part, or which step took longer
    /// than 5 s.
    /// </summary>
    public string? Run(int limit, StateComparer comparer, ulong? end = null, Action<int>? beforeStep = null)
    {
        _late = false;
        try
        {
            for (int i = 0; i < limit && Ours.State->Rip != end; i++)
            {
                beforeStep?.Invoke(i);
                _watchdog.Change(s_stepLimit, Timeout.InfiniteTimeSpan);
                if (Step(comparer, $"step {i + 1} at ", out bool over) is { } difference)
                    return difference;
                if (over)
                    break;
            }
        }
        finally
        {
            _watchdog.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        return Memory(comparer);
    }

    /// <summary>One instruction on both; null when they agree. <paramref name="over"/>: they have halted.</summary>
    private string? Step(StateComparer comparer, string place, out bool over)
    {
        (ulong rip, string code) = Place(Ours);
        place += $"0x{rip:X} ({code}): ";
        bool delays = DelaysTrap(code);
        VcpuExit theirs = StepTheirs(rip, code), ours = StepOurs();
        // The trap flag waits for one more instruction behind a load of SS (SDM Vol. 3A §6.8.3); emulated processors do so behind STI too.
        if (delays && ours == VcpuExit.SingleStep && Ours.State->Rip != Theirs.State->Rip)
            ours = StepOurs();
        // Ours takes an iteration at a time too, or all of them: what counts is where they meet.
        for (int n = 0; n < MaxIterations && !_late && ours == VcpuExit.SingleStep && Ours.State->Rip == rip && Theirs.State->Rip != rip; n++)
            ours = StepOurs();
        over = ours is VcpuExit.Halt or VcpuExit.Shutdown;
        if (_late)
            return $"{place}not over after {s_stepLimit.TotalSeconds} s, RIP 0x{Ours.State->Rip:X} and 0x{Theirs.State->Rip:X}";
        if (NoResumeFlag)
            ForgiveResumeFlag();
        Steps++;
        string? difference = ours != theirs ? $"exit {ours}, KVM {theirs}{(theirs == VcpuExit.Failed ? ": " + Theirs.Host.Failure : "")}" : comparer.Compare(Ours.State, Theirs.State);
        if (difference is not null)
            return place + difference;
        return over || ours == VcpuExit.SingleStep ? null : $"{place}both {ours}";
    }

    /// <summary>Runs each to its end in one go and tells all differences of registers and the first ones of memory; null when they agree. Nothing is forgiven.</summary>
    public string? RunToEnd(StateComparer comparer)
    {
        const int Most = 32;
        VcpuExit ours = Ours.Run(), theirs = Theirs.Run();
        if (ours != theirs)
            return $"exit {ours}, theirs {theirs}";
        string[] differences = [.. comparer.Compare(Ours.State, Theirs.State) is { } registers ? [registers] : Array.Empty<string>(), .. MemoryDifferences(comparer).Take(Most)];
        return differences.Length == 0 ? null : string.Join(", ", differences);
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
        bool repeats = IsRepeatedString(code);
        VcpuExit exit;
        int n = 0;
        do
        {
            exit = Theirs.Vcpu.SingleStep();
            Theirs.Vcpu.SynchronizeState();
        }
        while (repeats && !_late && exit == VcpuExit.SingleStep && Theirs.State->Rip == rip && ++n < MaxIterations);

        return exit;
    }

    /// <summary>A string instruction (opcodes 6Ch-6Fh, A4h-A7h, AAh-AFh) with F2h or F3h among its prefixes, wherever that stands.</summary>
    private static bool IsRepeatedString(string code)
    {
        bool repeats = false;
        foreach (byte b in code[0] == '?' ? [] : Convert.FromHexString(code))
        {
            if (b is 0x66 or 0x67 or 0xF2 or 0xF3 or 0x26 or 0x2E or 0x36 or 0x3E or 0x64 or 0x65 or (>= 0x40 and <= 0x4F))
                repeats |= b is 0xF2 or 0xF3;
            else
                return repeats && b is (>= 0x6C and <= 0x6F) or (>= 0xA4 and <= 0xA7) or (>= 0xAA and <= 0xAF);
        }

        return false;
    }

    private static bool DelaysTrap(string code) => code.StartsWith("FB", StringComparison.Ordinal) || code.StartsWith("8ED", StringComparison.Ordinal) || code.StartsWith("17", StringComparison.Ordinal) || code.Contains("0FB2", StringComparison.Ordinal);

    private static (ulong Rip, string Code) Place(ConformanceMachine machine)
    {
        VcpuState* s = machine.State;
        ulong linear = s->IsLongMode && s->CS.IsLong ? s->Rip : (uint)(s->CS.Base + s->Rip);
        var bytes = new byte[8];
        return (s->Rip, machine.Vcpu.TryTranslate(linear, out ulong gpa) && machine.Memory.TryRead(gpa, bytes) ? Convert.ToHexString(bytes) : "????");
    }

    private string? Memory(StateComparer comparer) => MemoryDifferences(comparer).FirstOrDefault();

    private IEnumerable<string> MemoryDifferences(StateComparer comparer)
    {
        var ours = new byte[4096];
        var theirs = new byte[4096];
        for (ulong page = 0; page < ConformanceMachine.RamSize; page += 4096)
        {
            if (!Ours.Memory.TryRead(page, ours) || !Theirs.Memory.TryRead(page, theirs))
            {
                yield return $"no memory at 0x{page:X}";
                yield break;
            }

            if (ours.AsSpan().SequenceEqual(theirs))
                continue;
            for (int i = 0; i < 4096; i++)
            {
                if (ours[i] != theirs[i] && !comparer.IsIgnored(page + (ulong)i))
                    yield return $"memory at 0x{page + (ulong)i:X}: {ours[i]:X2}, KVM {theirs[i]:X2}";
            }
        }
    }

    public void Dispose()
    {
        using (var ended = new ManualResetEvent(false))
        {
            if (_watchdog.Dispose(ended))
                ended.WaitOne();
        }

        Ours.Dispose();
        Theirs.Dispose();
    }
}
