using System.Text;

namespace VirtPS.Emulation.Tests;

/// <summary>
/// Random straight code in which many accesses share checks: few base registers, small distances, pages in an order of their own, some of which are not there or read-only. Each program
/// runs three times with what the first run left in the TLB, so that common checks hit, too. Registers, flags, vector registers, memory, page tables and the fault must be the interpreter's.
/// VIRTPS_TEST_PINS is the number of programs per case, and its negative the seed of a single one.
/// </summary>
public sealed unsafe partial class PinRandomTests
{
    private const ulong Area = 0x40_0000, Frames = 0x20_0000;

    /// <summary>The code is in two pages in the middle, its data around them.</summary>
    private const int Pages = 16, CodePage = 8, Runs = 3;

    private static int Count => int.TryParse(Environment.GetEnvironmentVariable("VIRTPS_TEST_PINS"), out int n) ? n : 150;

    [Theory]
    [InlineData(0, 1, "as it is")]
    [InlineData(3, 2, "as it is")]
    [InlineData(0, 3, "without PEXT")]
    [InlineData(3, 4, "without PEXT")]
    [InlineData(0, 5, "x86-64-v2")]
    [InlineData(3, 6, "x86-64-v2")]
    public void Random_code_with_common_checks_does_what_the_interpreter_does(int ring, int seed, string host)
    {
        Assert.SkipUnless(EngineOptions.CanTranslate, "this host cannot run generated code");
        EngineOptions engine = host == "x86-64-v2" ? TestGuest.V2 : new EngineOptions { Translate = true, HotAfter = 0, AvoidPext = host == "without PEXT" };
        int blocks = 0, complete = 0, faults = 0;
        using var interpreter = new TestGuest(engine: new EngineOptions { Host = engine.Host });
        using var translator = new TestGuest(engine: engine with
        {
            AfterTranslation = (cpu, block) =>
            {
                engine.AfterTranslation?.Invoke(cpu, block);
                blocks++;
            },
        });
        ulong table = Prepare(interpreter, ring);
        Assert.Equal(table, Prepare(translator, ring));
        var seeds = new Random(seed);
        int count = Count;
        for (int i = 0; i < Math.Max(1, count); i++)
        {
            int program = count < 0 ? -count : seeds.Next();
            List<Item> items = Generate(new Random(program), engine.Host);
            string[] expected = Run(interpreter, ring, table, items, program), actual = Run(translator, ring, table, items, program);
            if (!expected.SequenceEqual(actual))
                Assert.Fail(Describe(interpreter, translator, ring, table, items, program));
            complete += expected.Count(e => e.StartsWith("ok", StringComparison.Ordinal));
            faults += expected.Count(e => !e.StartsWith("ok", StringComparison.Ordinal));
        }

        int pinned = CountPinned(translator, out int unpinned);

        TestContext.Current.TestOutputHelper?.WriteLine($"{blocks} blocks, {pinned} with common checks, {unpinned} second translations, {complete} runs to the end, {faults} faults");
        // With thousands the cache of translations has become full, and counts anew.
        Assert.True(count is < 100 or > 1000 || (unpinned > count / 2 && complete > count / 2 && faults > count / 4), $"{unpinned} second translations, {complete} runs to the end, {faults} faults");
    }

    /// <summary>Translations with common checks, and those of them whose checks missed.</summary>
    private static int CountPinned(TestGuest g, out int unpinned)
    {
        TranslationCache cache = g.Cpu.Translations!;
        (int pinned, unpinned) = (0, 0);
        for (int i = 1; i <= cache.TranslationCount; i++)
        {
            pinned += cache.At(i).UnpinnedCount != 0 ? 1 : 0;
            unpinned += cache.At(i).Unpinned != 0 ? 1 : 0;
        }

        return pinned;
    }

    private static ulong Prepare(TestGuest g, int ring)
    {
        g.LongMode(ring: ring);
        bool wide = Thunks.HostFeatures.Current.Avx512;
        g.S->Cr4 |= Cr4.OSXSAVE;
        g.S->Xcr0 = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx | (wide ? Xcr0.Avx512 : 0);
        g.WriteFaultTables(64);
        ulong pd = g.Read<ulong>(g.Read<ulong>(g.S->Cr3) & PageBits.AddressMask) & PageBits.AddressMask;
        for (ulong i = 0; i < TestGuest.RamSize >> 21; i++)
            g.Write(pd + i * 8, i == 0 ? 0x83ul : 0);
        ulong table = g.AllocateTable();
        g.Write(pd + (Area >> 21) * 8, table | 7);
        // Every handler has a stack of its own: the guest's may not be there.
        for (ulong v = 0; v < 32; v++)
            g.Write(g.S->Idtr.Base + v * 16 + 4, (byte)1);
        g.Write(g.S->TR.Base + 0x24, TestGuest.Stack);
        g.Cpu.CommitState();
        return table;
    }

    /// <summary>The pages in any order but those of the code, some not there, some read-only; then contents.</summary>
    private static void Map(TestGuest g, ulong table, Random random)
    {
        int[] order = [.. Enumerable.Range(0, Pages - 2)];
        random.Shuffle(order);
        int rare = random.Next(2) == 0 ? 12 : 80;
        for (int i = 0; i < Pages; i++)
        {
            bool code = i is CodePage or CodePage + 1;
            uint rights = code ? 5u : random.Next(rare) switch { 0 => 0u, 1 => 5u, _ => 7u };
            int frame = code ? Pages - 2 + i - CodePage : order[i < CodePage ? i : i - 2];
            g.Write(table + (ulong)i * 8, Frames + (ulong)frame * 4096 | rights);
        }

        random.NextBytes(new Span<byte>(g.Ram.Address + Frames, Pages * 4096));
        g.S->Cr2 = 0;
        g.Cpu.FlushTlb(global: true);
    }

    /// <summary>Everything that can be seen behind each run of a program.</summary>
    private static string[] Run(TestGuest g, int ring, ulong table, List<Item> items, int seed)
    {
        var random = new Random(seed ^ 0x5555);
        Map(g, table, random);
        ulong place = (ulong)random.Next(0, 0xE00), start = Area + CodePage * 4096 + place;
        g.Assemble(64, Frames + (Pages - 2) * 4096 + place, a => Write(a, items), start);
        ulong visible = items.Any(i => Array.Exists(i.Code, LeavesUndefined)) ? ~(ulong)Rflags.AF : ~0ul;
        string[] ends = new string[Runs];
        ulong[] registers = new ulong[16];
        for (int i = 0; i < Runs; i++)
        {
            SetRegisters(g, registers, random, i == 0);
            (SegmentRegister cs, SegmentRegister ss) = (g.S->CS, g.S->SS);
            g.S->Rip = start;
            ends[i] = RunOnce(g, table, visible);
            (g.S->CS, g.S->SS, g.S->Cpl, g.S->Cr2) = (cs, ss, (byte)ring, 0);
            g.Cpu.CommitState();
        }

        return ends;
    }

    private static string RunOnce(TestGuest g, ulong table, ulong visible)
    {
        VcpuState* s = g.S;
        new Span<byte>(g.Ram.Address + TestGuest.Stack - 64, 64).Clear();
        ulong before = s->InstructionsRetired;
        VcpuExit exit = g.Cpu.Run();
        g.Write(TestGuest.Stack - 24, g.Read<ulong>(TestGuest.Stack - 24) & visible);
        s->MpState = MpState.Runnable;
        bool end = s->Rip is >= TestGuest.Handlers and < TestGuest.Handlers + 32 && g.Read<byte>(Linear(g.Read<ulong>(TestGuest.Stack - 40))) == 0xF4;
        bool halted = s->Rip > Area && exit == VcpuExit.Halt;
        string registers = string.Join(' ', Enumerable.Range(0, 16).Select(r => $"{(Gpr)r}={s->Gpr[r]:x}"));
        string frame = string.Join(' ', Enumerable.Range(1, 6).Select(i => g.Read<ulong>(TestGuest.Stack - (ulong)i * 8).ToString("x", null)));
        return $"{(end || halted ? "ok" : "fault")} {exit} rip {s->Rip:x} flags {s->Rflags & visible:x} cr2 {s->Cr2:x} retired {s->InstructionsRetired - before} frame {frame}\n {registers}\n vectors "
            + $"{Hash(s->Xsave, VcpuState.XsaveSize)} memory {Hash(g.Ram.Address + Frames, Pages * 4096)} tables {Hash(g.Ram.Address + table, Pages * 8)}";
    }

    /// <summary>Where the code that is executed at a linear address is; 0 if there is none.</summary>
    private static ulong Linear(ulong rip) => rip - Area - CodePage * 4096 < 8192 ? Frames + (Pages - 2) * 4096 + (rip - Area - CodePage * 4096) : 0;

    private static string Hash(byte* at, int size) => Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(new ReadOnlySpan<byte>(at, size)), 0, 6);

    /// <summary>In the second and third run the bases are what they were in the first, a little beside, or somewhere else, often just before a page end.</summary>
    private static void SetRegisters(TestGuest g, ulong[] bases, Random random, bool first)
    {
        for (int r = 0; r < 16; r++)
        {
            int how = first ? random.Next(5) : random.Next(9);
            int number = random.Next(1, Pages - 3);
            ulong page = Area + (ulong)(number < CodePage || random.Next(8) == 0 ? number : number + 2) * 4096;
            bases[r] = how switch
            {
                0 => page + 4096 - (ulong)random.Next(256),
                1 => page + 4096 - (ulong)(random.Next(32) * 8),
                <= 4 => page + (ulong)random.Next(300, 3800),
                5 => bases[r] + (ulong)(random.Next(64) * 8) - 256,
                _ => bases[r],
            };
            if (how != 1 && random.Next(3) != 0)
                bases[r] &= ~63ul;
            // Of what ends with the page one byte lies in the next.
            if (how == 1 && random.Next(2) == 0)
                bases[r]++;
            g.S->Gpr[r] = IsBase(r) ? bases[r] : random.Next(8) == 0 ? (ulong)random.Next(-2, 3) : (ulong)random.NextInt64();
        }

        g.S->Rflags = 2 | (ulong)random.Next() & 0x8D5;
        // What a guest does not have is zero: nothing but a write of the host's could make it anything else.
        bool wide = Thunks.HostFeatures.Current.Avx512;
        byte* value = stackalloc byte[64];
        for (int n = 0; n < (wide ? 32 : 16); n++)
        {
            random.NextBytes(new Span<byte>(value, wide ? 64 : 32));
            VectorFile.SetZmm(g.S, n, value);
        }

        *(ulong*)(g.S->Xsave + VectorFile.HeaderOffset) = g.S->Xcr0;
        g.Cpu.CommitState();
    }

    /// <summary>The smallest program that still makes a difference, and which.</summary>
    private static string Describe(TestGuest interpreter, TestGuest translator, int ring, ulong table, List<Item> items, int seed)
    {
        for (int size = items.Count / 2; size > 0; size /= 2)
        {
            for (int i = 0; i + size <= items.Count;)
            {
                List<Item> less = [.. items.Take(i), .. items.Skip(i + size)];
                if (Run(interpreter, ring, table, less, seed).SequenceEqual(Run(translator, ring, table, less, seed)))
                    i += size;
                else
                    items = less;
            }
        }

        string[] expected = Run(interpreter, ring, table, items, seed), actual = Run(translator, ring, table, items, seed);
        var text = new StringBuilder($"Program {seed}, ring {ring}:\n");
        foreach (Item item in items)
            text.AppendLine($"  {string.Join("; ", item.Code)}{(item.Skip > 0 ? $" (over {item.Skip})" : "")}");
        for (int i = 0; i < Runs; i++)
            text.AppendLine($"run {i}\n{expected[i]}\n{(actual[i] == expected[i] ? "the same" : actual[i])}");
        return text.ToString();
    }
}
