using Iced.Intel;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Lockstep;

/// <summary>What a suite of comparisons found.</summary>
/// <param name="Cases">Guests run.</param>
/// <param name="Steps">Instructions compared.</param>
/// <param name="Differences">Where they part, each with the guest's name in front.</param>
public sealed record LockstepResult(int Cases, int Steps, IReadOnlyList<string> Differences);

/// <summary>Runs many guests on one pair of machines; a new pair after a difference, for then their memory differs.</summary>
public sealed class LockstepSuite(IStrategy ours, IStrategy theirs)
{
    private const int Limit = 200;

    /// <summary>See <see cref="LockstepRun.NoResumeFlag"/>.</summary>
    public bool NoResumeFlag { get; init; }

    /// <summary>See <see cref="LockstepRun.RunToEnd"/>; on a pair of machines of its own.</summary>
    public string? RunToEnd(LockstepCase guest)
    {
        using var run = new LockstepRun(ours, theirs);
        run.Both(guest.Prepare);
        return run.RunToEnd(new StateComparer { UndefinedFlags = guest.UndefinedFlags });
    }

    /// <summary>The cases written by hand, but for those whose name begins with one of <paramref name="leftOut"/>.</summary>
    public LockstepResult RunPrivileged(IReadOnlyCollection<string> leftOut)
    {
        List<string> differences = [];
        int cases = 0, steps = 0;
        LockstepRun? run = null;
        foreach (LockstepCase guest in PrivilegedCases.All)
        {
            if (leftOut.Any(l => guest.Name.StartsWith(l, StringComparison.Ordinal)))
                continue;
            run ??= new LockstepRun(ours, theirs) { NoResumeFlag = NoResumeFlag };
            cases++;
            run.Both(guest.Prepare);
            if (run.Run(Limit, new StateComparer { UndefinedFlags = guest.UndefinedFlags }) is { } difference)
            {
                differences.Add($"{guest.Name}: {difference}");
                steps += run.Steps;
                run.Dispose();
                run = null;
            }
        }

        steps += run?.Steps ?? 0;
        run?.Dispose();
        return new LockstepResult(cases, steps, differences);
    }

    /// <summary>Random instruction sequences of the opcode oracle's generator, in ring 0, until <paramref name="limit"/> is over; of instructions that are expected to agree; of these <paramref name="only"/>, where given.</summary>
    public LockstepResult RunRandom(ulong seed, int sequences, TimeSpan limit, IReadOnlyCollection<Mnemonic>? only = null)
    {
        List<string> differences = [];
        int cases = 0, steps = 0;
        var watch = System.Diagnostics.Stopwatch.StartNew();
        using var random = new RandomSequences(seed, only);
        LockstepRun? run = null;
        for (; cases < sequences && watch.Elapsed < limit; cases++)
        {
            run ??= new LockstepRun(ours, theirs) { NoResumeFlag = NoResumeFlag };
            if (random.RunOne(run) is { } difference)
            {
                differences.Add($"sequence {cases} of seed {seed}: {difference}");
                steps += run.Steps;
                run.Dispose();
                run = null;
            }
        }

        steps += run?.Steps ?? 0;
        run?.Dispose();
        return new LockstepResult(cases, steps, differences);
    }
}
