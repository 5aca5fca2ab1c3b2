using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Machine;

namespace VirtPS.Guest.Tests;

/// <summary>What programs do that a plain boot does not, under Debian's kernel: the same under Full, where the processor's own rules hold, and under Para.</summary>
public class ProgramTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(120);

    private static async Task<GuestRun> BootAsync(string strategy, int processors, string script, Dictionary<string, byte[]> programs)
    {
        using DebianImages images = await DebianImages.FindAsync(script, programs);
        // quiet: what the kernel says of itself, at whatever moment, would stand in the middle of what the programs say.
        var boot = new BootConfiguration { Kernel = images.Kernel, Initrd = images.Initrd, CommandLine = $"console={(strategy == "Para" ? "hvc0" : "ttyS0")} panic=-1 quiet" };
        var guest = new GuestRun(boot, 512 << 20, processors, strategy);
        guest.Machine.PowerOn();
        if (!guest.WaitFor("GUEST-READY", Limit))
        {
            string all = guest.ToString();
            guest.Dispose();
            Assert.Fail(all);
        }

        return guest;
    }

    [Theory]
    [InlineData("Full")]
    [InlineData("Para")]
    public async Task Two_AVX2_programs_take_turns_and_each_keeps_its_registers(string strategy)
    {
        if (!HostFeatures.Current.Avx2)
            Assert.Skip("This host has no AVX2.");
        await TakeTurns(strategy, "avx2", GuestProgram.Avx2(), ["xsave", "avx", "avx2", "fma"], ["xstate_offset[2]:  576"]);
    }

    [Theory]
    [InlineData("Full")]
    [InlineData("Para")]
    public async Task Two_AVX_512_programs_take_turns_and_each_keeps_its_registers_and_masks(string strategy)
    {
        if (!HostFeatures.Current.Avx512)
            Assert.Skip("This host has no AVX-512.");
        await TakeTurns(strategy, "avx512", GuestProgram.Avx512(), ["avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"], ["xstate_offset[5]:  832, xstate_sizes[5]:   64",
            "xstate_offset[6]:  896, xstate_sizes[6]:  512", "xstate_offset[7]: 1408, xstate_sizes[7]: 1024", "0xe7, context size is 2432 bytes, using 'standard' format"]);
    }

    /// <summary>A program twice at once on one processor, each with exit code 0; the kernel sees the features, and the layout of their state.</summary>
    private static async Task TakeTurns(string strategy, string name, byte[] program, string[] features, string[] layout)
    {
        string script = $"""
            for f in {string.Join(' ', features)}; do grep -q -w $f /proc/cpuinfo && echo "has $f"; done
            dmesg | grep x86/fpu
            {name} & one=$!; {name} & two=$!
            wait $one; echo "first: $?"; wait $two; echo "second: $?"
            """;
        using GuestRun guest = await BootAsync(strategy, 1, script, new() { [name] = program });
        foreach (string expected in (IEnumerable<string>)[.. features.Select(f => "has " + f), .. layout, "first: 0", "second: 0"])
            Assert.True(guest.Output.Contains(expected, StringComparison.Ordinal), $"{expected}: {guest}");
    }

    [Theory]
    [InlineData("Full")]
    [InlineData("Para")]
    public async Task Programs_set_their_segment_bases_themselves_and_know_their_processor(string strategy)
    {
        const string script = """
            for f in fsgsbase rdtscp rdpid; do grep -q -w $f /proc/cpuinfo && echo "has $f"; done
            bases & one=$!; bases & two=$!
            wait $one; echo "first: $?"; wait $two; echo "second: $?"
            """;
        using GuestRun guest = await BootAsync(strategy, 1, script, new() { ["bases"] = GuestProgram.Bases() });
        foreach (string expected in (ReadOnlySpan<string>)["has fsgsbase", "has rdtscp", "has rdpid", "first: 0", "second: 0"])
            Assert.True(guest.Output.Contains(expected, StringComparison.Ordinal), $"{expected}: {guest}");
    }

    [Theory]
    [InlineData("Full")]
    [InlineData("Para")]
    public async Task A_32_bit_program_reaches_the_kernel_by_all_its_ways(string strategy)
    {
        using GuestRun guest = await BootAsync(strategy, 1, "compat; echo \"compat: $?\"", new() { ["compat"] = GuestProgram.Compat() });
        foreach (string expected in (ReadOnlySpan<string>)["32-bit by int80", "32-bit by the kernel", "kernel's way is syscall", "compat: 0"])
            Assert.True(guest.Output.Contains(expected, StringComparison.Ordinal), $"{expected}: {guest}");
    }

    /// <summary>Under Xen the failed return is the failsafe callback.</summary>
    [Theory]
    [InlineData("Full")]
    [InlineData("Para")]
    public async Task A_return_to_a_segment_that_is_not_there_kills_the_program_alone(string strategy)
    {
        using GuestRun guest = await BootAsync(strategy, 1, "badreturn; echo \"badreturn: $?\"; badreturn; echo \"again: $?\"; echo \"traces: $(dmesg | grep -c 'Call Trace')\"", new() { ["badreturn"] = GuestProgram.BadReturn() });
        foreach (string expected in (ReadOnlySpan<string>)["badreturn: 139", "again: 139", "traces: 0"])
            Assert.True(guest.Output.Contains(expected, StringComparison.Ordinal), $"{expected}: {guest}");
    }
}
