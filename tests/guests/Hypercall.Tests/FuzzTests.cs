using System.Globalization;
using System.Text.RegularExpressions;
using VirtPS.Sdk.Machine;
using VirtPS.Strategy.Para.Mmu;

namespace VirtPS.Hypercall.Tests;

/// <summary>
/// Every hypercall with random and nearly right arguments, from inside a guest: the worker lives, no page-table rule is broken, and no other machine is touched. VIRTPS_FUZZ_CALLS gives
/// the number of calls (a million for a long run), VIRTPS_FUZZ_SEED where to begin.
/// </summary>
public partial class FuzzTests
{
    private const long DefaultCalls = 40_000;

    [Fact]
    public void No_call_breaks_a_rule_or_reaches_another_machine()
    {
        long wanted = Setting("VIRTPS_FUZZ_CALLS") ?? DefaultCalls;
        int seed = (int)(Setting("VIRTPS_FUZZ_SEED") ?? 1);
        var guest = new FuzzGuest();
        // Another machine of this process, which stands still meanwhile.
        using var other = new FuzzRun(guest, 0);
        other.Start(paused: true);
        byte[] before = other.HashMemory();

        var ends = new Dictionary<FuzzEnd, int>();
        var reasons = new Dictionary<string, int>();
        long calls = 0, accepted = 0;
        long[] byNumber = new long[64];
        int lives = 0, together = 0;
        while (calls < wanted)
        {
            using var run = new FuzzRun(guest, seed + lives);
            run.Start();
            FuzzEnd end = run.Feed(200, _ =>
            {
                Verify(run);
                return calls + run.Calls < wanted;
            });
            Verify(run);
            ends[end] = ends.GetValueOrDefault(end) + 1;
            string why = end == FuzzEnd.Stopped ? run.Log.Reason ?? run.Machine.StatusReason : $"{end}";
            why = Numbers().Replace(why, "…");
            reasons[why] = reasons.GetValueOrDefault(why) + 1;
            lives++;
            together += run.SecondRuns ? 1 : 0;
            calls += run.Calls;
            accepted += run.Accepted;
            run.AddTo(byNumber);
            Assert.True(IsTheGuestsDoing(run), $"seed {run.Seed}: {run.Machine.StatusReason}\n{run.Log}");
        }

        Assert.Equal(before, other.HashMemory());
        TestContext.Current.TestOutputHelper?.WriteLine(string.Create(CultureInfo.InvariantCulture,
            $"{calls} hypercalls, {accepted} of them accepted, of {byNumber.Count(n => n > 0)} numbers in {lives} lives, {together} of them with both processors; {string.Join(", ", ends.Select(e => $"{e.Key} {e.Value}"))}"));
        foreach ((string why, int count) in reasons.OrderByDescending(r => r.Value))
            TestContext.Current.TestOutputHelper?.WriteLine($"{count} x {why}");
        Assert.True(accepted > calls / 5, "Nearly all calls were refused: nothing is tested.");
        Assert.True(together > 0, "The second processor never came up.");
    }

    /// <summary>That the test can fail: a page table that can be written is found.</summary>
    [Fact]
    public unsafe void A_writable_page_table_is_found()
    {
        using var run = new FuzzRun(new FuzzGuest(), 1);
        run.Start(paused: true);
        Assert.Empty(PageTypeChecker.Check(run.Domain));
        // A leaf that maps a victim page is made to map the table itself.
        for (ulong mfn = 0; mfn < run.Domain.Frames.RamFrames; mfn++)
        {
            if (run.Domain.Frames.Find(mfn)->Type != FrameType.L1)
                continue;
            run.Machine.Memory.TryWrite((mfn << 12) + 8, (mfn << 12) | 0x27);
            Assert.NotEmpty(PageTypeChecker.Check(run.Domain));
            return;
        }

        Assert.Fail("There is no page table.");
    }

    [GeneratedRegex("0x[0-9A-F]+|vCPU [0-9]")]
    private static partial Regex Numbers();

    private static void Verify(FuzzRun run)
    {
        bool running = run.Machine.State == VmState.Running;
        if (running)
        {
            try
            {
                run.Machine.Pause();
            }
            catch (Sdk.VirtException e) when (e.ErrorId == "InvalidVMState")
            {
                // It ended at this moment.
                running = false;
            }
        }

        IReadOnlyList<string> violations = PageTypeChecker.Check(run.Domain);
        Assert.True(violations.Count == 0, $"seed {run.Seed}: {string.Join("; ", violations.Take(10))}\n{run.Log}");
        if (running && run.Machine.State == VmState.Paused)
            run.Machine.Resume();
    }

    /// <summary>A domain that the VMM had to end says so in its own words; anything else is our own defect.</summary>
    private static bool IsTheGuestsDoing(FuzzRun run) => !run.Machine.StatusReason.Contains("Exception", StringComparison.Ordinal) && !run.Log.Defect;

    private static long? Setting(string name) => long.TryParse(Environment.GetEnvironmentVariable(name), NumberStyles.None, CultureInfo.InvariantCulture, out long value) ? value : null;
}
