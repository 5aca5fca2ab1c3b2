using System.Buffers.Binary;
using System.Text.RegularExpressions;
using VirtPS.Guests.Ringlab;

namespace VirtPS.Guests.Tests;

public class RinglabTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Fact]
    public void TheImageIsTheSameEachTime() => Assert.Equal(RinglabImage.Build(), RinglabImage.Build());

    [Fact]
    public void TheImageHasBothEntryHeaders()
    {
        byte[] image = RinglabImage.Build();
        Assert.Equal("\u007fELF"u8.ToArray(), image[..4]);
        uint flags = BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(0x104));
        Assert.Equal(0x1BADB002u, BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(0x100)));
        Assert.Equal(0u, unchecked(0x1BADB002u + flags + BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(0x108))));
        Assert.Equal(BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(24)), BinaryPrimitives.ReadUInt32LittleEndian(image.AsSpan(0x90)));
    }

    [Fact]
    public void AllRingsWorkOnAPcAndTheSummaryCounts()
    {
        SkipWithoutQemu();
        using var qemu = new Qemu(RinglabImage.Build(), "exit");
        Assert.True(qemu.WaitForEnd(Limit), "did not power off; output:\n" + qemu.Output);
        string output = qemu.Output;
        int at = 0;
        foreach (string line in RinglabTranscript.InOrder)
        {
            int found = output.IndexOf(line, at, StringComparison.Ordinal);
            Assert.True(found >= 0, $"'{line}' is missing or out of order in:\n{output}");
            at = found + line.Length;
        }

        Match ok = RinglabTranscript.Summary().Match(output);
        Assert.True(ok.Success, output);
        Assert.Equal(19, Number(ok, "refused"));
        Assert.Equal(4, Number(ok, "pagefaults"));
        Assert.Equal(3, Number(ok, "int80"));
        Assert.True(Number(ok, "ticks") >= 10);
        Assert.InRange(Number(ok, "ring3ticks"), 10, Number(ok, "ticks"));
        Assert.True(Number(ok, "apicticks") > 0);
        Assert.DoesNotContain("RINGLAB-FAILED", output, StringComparison.Ordinal);
    }

    [Fact]
    public void ItEchoesAndPowersOffOnQ()
    {
        SkipWithoutQemu();
        using var qemu = new Qemu(RinglabImage.Build(), "");
        Assert.True(qemu.WaitForText("q = power off", Limit), qemu.Output);
        qemu.Send("xyz");
        Assert.True(qemu.WaitForText("xyz", Limit), qemu.Output);
        qemu.Send("q");
        Assert.True(qemu.WaitForEnd(Limit), qemu.Output);
        Assert.Contains("[ring 0] q: power off", qemu.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void ItResetsOnR()
    {
        SkipWithoutQemu();
        using var qemu = new Qemu(RinglabImage.Build(), "no-exit benches"); // words that only look like options
        Assert.True(qemu.WaitForText("q = power off", Limit), qemu.Output);
        qemu.Send("r");
        Assert.True(qemu.WaitForEnd(Limit), qemu.Output); // -no-reboot: QEMU ends on reset
        Assert.EndsWith("[ring 0] r: reset\r\n", qemu.Output, StringComparison.Ordinal);
    }

    [Fact]
    public void TheStormEndsWithExit()
    {
        SkipWithoutQemu();
        using var qemu = new Qemu(RinglabImage.Build(), "bench exit");
        Assert.True(qemu.WaitForEnd(Limit), qemu.Output);
        Assert.Contains("RINGLAB-BENCH 1000000 system calls", qemu.Output, StringComparison.Ordinal);
    }

    private static long Number(Match match, string group) => long.Parse(match.Groups[group].ValueSpan);

    private static void SkipWithoutQemu() => Assert.SkipUnless(Qemu.Program is not null, "qemu-system-x86_64 is not installed");
}

/// <summary>What ringlab prints on any machine that it works on; strategies compare against the same lines.</summary>
public static partial class RinglabTranscript
{
    public static IReadOnlyList<string> InOrder { get; } =
    [
        "[ring 0] protected mode",
        "[ring 3] here I am",
        "[ring 3] calling ring 2 through gate 0x5b",
        "[ring 2] entered from ring 3; calling ring 1 through gate 0x62",
        "[ring 1] entered from ring 2",
        "[ring 1] calling ring 0 through gate 0x69",
        "[ring 0] called from ring 1; the gate copied parameter 0x1234",
        "[ring 1] back from ring 0",
        "[ring 2] back from ring 1",
        "[ring 0] caught #GP(0x0) from ring 2: CLI in ring 2",
        "[ring 3] back from ring 2",
        "[ring 0] caught #GP(0x0) from ring 3: CLI",
        "[ring 0] caught #GP(0x0) from ring 3: HLT",
        "[ring 0] caught #GP(0x10) from ring 3: MOV DS",
        "[ring 0] caught #GP(0x8) from ring 3: far CALL",
        "[ring 0] caught #GP(0x68) from ring 3: CALL through the gate",
        "[ring 0] caught #GP(0x102) from ring 3: INT 0x20",
        "[ring 3] this line came by INT 0x80",
        "[ring 0] switching to long mode",
        "[ring 0] long mode",
        "[ring 3] 64-bit code in ring 3",
        "[ring 3] and this one by INT 0x80",
        "[ring 0] caught #GP(0x0) from ring 3: MOV RAX, CR3",
        "[ring 0] caught #PF at 0x118000 (0x5) from ring 3: reading ring 0's variables",
        "[ring 0] caught #PF at 0x119000 (0x7) from ring 3: writing the page",
        "[ring 0] caught #PF at 0x400000 (0x6) from ring 3: writing where nothing is mapped",
        "[ring 0] caught #PF at 0x120fc0 (0x15) from ring 3: executing its own stack",
        "[ring 3] spinning here",
        "RINGLAB-OK rings=0,1,2,3",
        "[ring 0] exit: power off",
    ];

    [GeneratedRegex(@"RINGLAB-OK rings=0,1,2,3 gates=(?<gates>\d+) refused=(?<refused>\d+) int80=(?<int80>\d+) syscalls=(?<syscalls>\d+) ticks=(?<ticks>\d+) ring3ticks=(?<ring3ticks>\d+) apicticks=(?<apicticks>\d+) pagefaults=(?<pagefaults>\d+)")]
    public static partial Regex Summary();
}
