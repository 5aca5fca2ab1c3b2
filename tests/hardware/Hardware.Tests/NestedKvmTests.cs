using System.Diagnostics;
using System.Text;
using System.Text.RegularExpressions;
using VirtPS.Lockstep;
using VirtPS.Sdk;
using VirtPS.Sdk.Testing.Conformance;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// The proof (docs/KVM.md): QEMU emulates a processor with AMD SVM; in it a stock Linux with its own kvm-amd runs our engine with ringlab, the conformance suite and a stock
/// Linux kernel. Needs qemu-system-x86_64, and apt for the kernel.
/// </summary>
public sealed class NestedKvmTests
{
    private const string Qemu = "/usr/bin/qemu-system-x86_64";

    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(400);

    /// <summary>Run with KVM's interrupt controllers and with the machine's own.</summary>
    private static readonly string[] s_guests = ["ringlab", "TSC over a pause", "linux bzImage, 1 vCPU", "linux PVH, 2 vCPUs", "exact rings by single-step"];

    /// <summary>isa-debug-exit: 2 × result + 1.</summary>
    private const int NoFailures = 1;

    [Fact]
    public async Task Everything_runs_under_a_real_kvm_amd()
    {
        Assert.SkipUnless(File.Exists(Qemu), "No qemu-system-x86_64 on this machine (Debian: qemu-system-x86).");
        string folder = Directory.CreateTempSubdirectory("virtps-nested-").FullName;
        try
        {
            NestedImage image = await BuildAsync(folder, NestedContent.Runner);
            // Two emulated hosts at once: each is one thread of this one.
            string[][] parts = await Task.WhenAll(RunPartAsync(image, "guests"), RunPartAsync(image, "processor"));
            string[] lines = [.. parts.SelectMany(l => l)];
            Result[] results = [.. lines.Select(Result.TryRead).OfType<Result>()];
            string[] failures = [.. results.Where(r => !r.Passed && (r.Check is null || !EmulatedHost.IsExpected(r.Check))).Select(r => $"{r.Name}: {r.Text}")];
            Assert.True(failures.Length == 0, string.Join('\n', failures));
            foreach (string guest in (ReadOnlySpan<string>)["x2APIC MSRs reach the machine", "privileged instructions, ours beside the processor's", "random instructions, ours beside the processor's", .. s_guests.SelectMany(g => (string[])[g + ", irqchip=kernel", g + ", irqchip=software"])])
                Assert.Contains(results, r => r.Passed && r.Name == guest);
            Assert.Equal(StrategyConformance.Checks.Count + StrategyConformance.ChecksWithPartitionControllers.Count, results.Count(r => r.Check is not null));
            SameOnQemuAlone(results);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>The runner's lines of one part, which ended in order.</summary>
    private static async Task<string[]> RunPartAsync(NestedImage image, string part)
    {
        (int? code, string output) = await RunAsync(image, part);
        string[] lines = [.. output.ReplaceLineEndings("\n").Split('\n').Where(l => l.StartsWith("NESTED ", StringComparison.Ordinal))];
        foreach (string line in lines)
            TestContext.Current.TestOutputHelper?.WriteLine(line);
        Assert.True(code is not null, $"{part} not done after {s_limit.TotalSeconds} s:\n{output}");
        Assert.True(lines.Any(l => l.StartsWith("NESTED done", StringComparison.Ordinal)), $"QEMU ended with {code} before all of {part} was done:\n{output}");
        Assert.Equal(NoFailures + 2 * lines.Count(l => l.StartsWith("NESTED FAIL", StringComparison.Ordinal)), code);
        return lines;
    }

    /// <summary>Every difference that is put down to QEMU is there on its processor alone, in the same words but for one (BareQemuTests).</summary>
    private static void SameOnQemuAlone(Result[] results)
    {
        Dictionary<string, string?> alone = [];
        foreach (Result result in results.Where(r => !r.Passed))
        {
            if (EmulatedHost.ShownBy(result.Check!) is not { } shownBy)
                continue;
            if (!alone.TryGetValue(shownBy, out string? text))
                alone[shownBy] = text = EmulatedHost.Alone(shownBy);
            Assert.Equal(result.Text, text);
        }

        foreach (LockstepCase guest in KnownDifferences.EmulatedProcessor.Append(KnownDifferences.ResumeFlag).Where(c => !KnownDifferences.IsArbitraryThere(c)))
            Assert.Equal(WithoutResumeFlag(guest, results.Single(r => r.Name == $"differs: {guest.Name}").Text), EmulatedHost.Alone(guest));
        // With no KVM only what every fault's frame has differs; XCR0 does not.
        string frame = EmulatedHost.Alone(KnownDifferences.MissedIntercept)!;
        Assert.DoesNotContain("XCR0", frame, StringComparison.Ordinal);
        Assert.Equal($"XCR0 0x7, KVM 0x1, {frame}", results.Single(r => r.Name == $"differs: {KnownDifferences.MissedIntercept.Name}").Text);
    }

    /// <summary>
    /// KVM intercepts #UD and delivers it by itself, with RFLAGS.RF set in the frame; QEMU's processor never stores it (<see cref="KnownDifferences.ResumeFlag"/>), so that byte of the two
    /// frames is no part of what is compared where QEMU makes a #UD of its own.
    /// </summary>
    private static string WithoutResumeFlag(LockstepCase guest, string text) => KnownDifferences.IsUndefinedThere(guest)
        ? text.Replace(", memory at 0x3822: 00, KVM 01", "", StringComparison.Ordinal).Replace(", memory at 0x2FFEA: 00, KVM 01", "", StringComparison.Ordinal)
        : text;

    /// <summary>A line of the runner.</summary>
    private sealed record Result(bool Passed, string Name, string Text)
    {
        /// <summary>Its conformance check, if it is one.</summary>
        public string? Check => Name.StartsWith("check ", StringComparison.Ordinal) ? Name["check ".Length..] : null;

        public static Result? TryRead(string line)
        {
            Match match = Regex.Match(line, "^NESTED (pass|FAIL) [0-9.]+ (.*?) = (.*)$");
            return match.Success ? new Result(match.Groups[1].Value == "pass", match.Groups[2].Value, match.Groups[3].Value) : null;
        }
    }

    /// <summary>A measurement, for bench/Measure-All.ps1: a Debian boot beside QEMU's microvm in the same emulated host.</summary>
    [Fact(Explicit = true)]
    public async Task Boot_beside_QEMU()
    {
        Assert.SkipUnless(File.Exists(Qemu), $"{Qemu} is not installed (Debian: qemu-system-x86).");
        string folder = Directory.CreateTempSubdirectory("virtps-nested-").FullName;
        try
        {
            (_, string output) = await RunAsync(await BuildAsync(folder, NestedContent.RunnerAndQemu), "bench");
            string[] results = [.. output.ReplaceLineEndings("\n").Split('\n').Where(l => l.StartsWith("NESTED ", StringComparison.Ordinal))];
            foreach (string line in results)
                TestContext.Current.TestOutputHelper?.WriteLine(line);
            Assert.True(results.Any(l => l.StartsWith("NESTED pass", StringComparison.Ordinal) && l.Contains("boot beside QEMU", StringComparison.Ordinal)), output);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>For bench/Compare-Nested.ps1: Compare-VirtStrategy, by the shell with the module as it is built, on ringlab and the Debian kernel in the emulated host.</summary>
    [Fact(Explicit = true)]
    public async Task Compare_strategies()
    {
        Assert.SkipUnless(File.Exists(Qemu), $"{Qemu} is not installed (Debian: qemu-system-x86).");
        string folder = Directory.CreateTempSubdirectory("virtps-nested-").FullName;
        try
        {
            (_, string output) = await RunAsync(await BuildAsync(folder, NestedContent.Shell), "", memory: 3072);
            TestContext.Current.TestOutputHelper?.WriteLine(output);
            Assert.Contains("NESTED-TABLE Debian", output, StringComparison.Ordinal);
            Assert.Contains("NESTED-END", output, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>For a closer look: what the environment variable VIRTPS_TEST_NESTED asks the runner for, as <c>only=random,seed=7,count=500</c>.</summary>
    [Fact(Explicit = true)]
    public async Task A_part_under_a_real_kvm_amd()
    {
        Assert.SkipUnless(File.Exists(Qemu), $"{Qemu} is not installed (Debian: qemu-system-x86).");
        string folder = Directory.CreateTempSubdirectory("virtps-nested-").FullName;
        try
        {
            await RunPartAsync(await BuildAsync(folder, NestedContent.Runner), Environment.GetEnvironmentVariable("VIRTPS_TEST_NESTED") ?? "only=random");
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<NestedImage> BuildAsync(string folder, NestedContent content)
    {
        try
        {
            return await NestedImage.BuildAsync(folder, content, TestContext.Current.CancellationToken);
        }
        catch (VirtException e) when (e.ErrorId == "ImageUnavailable")
        {
            Assert.Skip($"{e.Message} {e.RecommendedAction}");
            throw;
        }
    }

    /// <summary>QEMU's exit code, null when it had to be ended; and the serial console.</summary>
    private static async Task<(int? Code, string Output)> RunAsync(NestedImage image, string part, int memory = 1536)
    {
        string[] arguments =
        [
            "-accel", "tcg", "-cpu", "EPYC,+svm,+npt", "-m", $"{memory}", "-display", "none", "-vga", "none", "-nodefaults", "-no-reboot", "-serial", "stdio",
            "-kernel", image.Kernel, "-initrd", image.Initrd, "-append", $"console=ttyS0 quiet panic=-1 oops=panic mitigations=off nested={part}", "-device", "isa-debug-exit,iobase=0x501,iosize=1",
        ];
        using var process = Process.Start(new ProcessStartInfo(Qemu, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
        process.StandardInput.Close();
        var text = new StringBuilder();
        void Collect(object sender, DataReceivedEventArgs e)
        {
            lock (text)
                text.AppendLine(e.Data);
        }

        process.OutputDataReceived += Collect;
        process.ErrorDataReceived += Collect;
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
        int? code = null;
        using (var limit = new CancellationTokenSource(s_limit))
        {
            try
            {
                await process.WaitForExitAsync(limit.Token);
                code = process.ExitCode;
            }
            catch (OperationCanceledException)
            {
                process.Kill();
                await process.WaitForExitAsync(CancellationToken.None);
            }
        }

        lock (text)
            return (code, text.ToString());
    }
}
