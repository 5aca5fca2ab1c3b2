using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.Opcodes;

if (!OperatingSystem.IsLinux() || RuntimeInformation.ProcessArchitecture != Architecture.X64 || !HostFeatures.Current.Avx || !HostFeatures.Current.Xsave)
{
    Console.Error.WriteLine("The opcode oracle needs a Linux x64 host with AVX and XSAVE; nothing was compared.");
    return 77;
}

long count = 1_000_000;
ulong seed = 1;
string? filter = null;
int steps = 6, maximum = 20, bits = 0;
long programs = 0, first = 0;
int inputs = 4;
string[] tiers = ["interpreter"];
bool list = false, trace = false, single = false, native = false;
var engine = new VirtPS.Emulation.EngineOptions();
for (int i = 0; i < args.Length; i++)
{
    string Value() => i + 1 < args.Length ? args[++i] : throw new ArgumentException($"{args[i]} needs a value.");
    switch (args[i])
    {
        case "--count": count = long.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--seed": seed = ulong.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--code": filter = Value(); break;
        case "--steps": steps = int.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--max-differences": maximum = int.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--programs": programs = long.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--first": first = long.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--inputs": inputs = int.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--tiers": tiers = Value().Split(','); break;
        case "--bits": bits = int.Parse(Value(), CultureInfo.InvariantCulture); break;
        case "--list": list = true; break;
        case "--translator": engine = new VirtPS.Emulation.EngineOptions { Translate = true, HotAfter = 0 }; break;
        case "--single": single = true; break;
        case "--native": native = true; break;
        case "--trace": trace = true; break;
        default:
            Console.Error.WriteLine("usage: VirtPS.Opcodes [--count N] [--seed N] [--code substring-of-Iced-code] [--bits 32|64] [--steps N] [--max-differences N] [--translator] [--single] [--native] [--list] [--trace]"
                + "\n       VirtPS.Opcodes --programs N [--first N] [--inputs N] [--tiers interpreter,translator,translator-v2] [--seed N] [--code substring] [--bits 32|64] [--steps N] [--max-differences N] [--trace]");
            return 2;
    }
}

// Three quarters in 64-bit mode, the rest in compatibility mode.
int[] modes = bits == 0 ? [64, 32] : [bits];
bool good = true, any = false;
foreach (int mode in modes)
{
    var catalog = new Catalog(mode, native);
    List<Code> codes = [.. catalog.Codes.Where(c => filter == null || c.ToString().Contains(filter, StringComparison.OrdinalIgnoreCase))];
    if (codes.Count == 0)
        continue;
    any = true;
    if (programs > 0)
        good &= ComparePrograms(mode, modes.Length == 1 ? programs : mode == 64 ? programs - programs / 4 : programs / 4, codes);
    else
        good &= Compare(mode, modes.Length == 1 ? count : mode == 64 ? count - count / 4 : count / 4, catalog, codes);
}

if (!any)
    Console.Error.WriteLine($"No instruction form contains '{filter}'.");
return !any ? 2 : good ? 0 : 1;

bool Compare(int mode, long goal, Catalog catalog, List<Code> codes)
{
    var clock = Stopwatch.StartNew();
    using var oracle = new Oracle(seed, mode, single, engine, catalog, codes, Console.Out) { Trace = trace, NativeOnly = native };
    if (!oracle.IsPossible)
    {
        Console.WriteLine($"{mode}-bit: this operating system has no 32-bit code segment; nothing was compared in that mode");
        return true;
    }

    while (oracle.Instructions < goal && oracle.Differences < maximum && oracle.CanContinue)
        oracle.RunOne(steps);
    Console.WriteLine($"{mode}-bit: {oracle.Instructions} instructions, {oracle.Covered.Count} of {codes.Count} forms, {oracle.Differences} differences, {oracle.Transient} faults of the host that did not repeat, seed {seed}, {clock.Elapsed.TotalSeconds:F1} s");
    if (filter == null)
        PrintGaps(oracle, catalog);
    return oracle.Differences == 0;
}

bool ComparePrograms(int mode, long goal, List<Code> codes)
{
    var clock = Stopwatch.StartNew();
    using var oracle = new ProgramOracle(seed, mode, codes, tiers, Console.Out) { Trace = trace };
    if (!oracle.IsPossible)
    {
        Console.WriteLine($"{mode}-bit: this operating system has no 32-bit code segment; nothing was compared in that mode");
        return true;
    }

    for (long i = first; i < first + goal && oracle.Differences < maximum; i++)
        oracle.RunOne(i, Math.Max(steps, 12), inputs);
    Console.WriteLine($"{mode}-bit: native against {string.Join(" and ", tiers)}: {goal} programs, {oracle.Sequences} sequences, {oracle.Differences} differences, {oracle.Transient} that did not repeat, {oracle.Endless} without an end, {oracle.Strayed} strayed into the oracle, seed {seed}, {clock.Elapsed.TotalSeconds:F1} s");
    Console.WriteLine($"  ended by: {string.Join(", ", oracle.Ends.Select(e => $"{e.Key} {e.Value}"))}");
    Console.WriteLine($"  made of: {string.Join(", ", oracle.Kinds.Select(e => $"{e.Key} {e.Value}"))}");
    return oracle.Differences == 0;
}

void PrintGaps(Oracle oracle, Catalog catalog)
{
    List<Code> unseen = [.. oracle.NeverSeen()];
    if (unseen.Count > 0)
        Console.WriteLine($"  tried without an instance ({unseen.Count}): {string.Join(' ', unseen.Take(list ? int.MaxValue : 20))}");
    foreach ((string reason, List<Code> left) in catalog.Left)
        Console.WriteLine($"  not covered, {reason} ({left.Count}): {string.Join(' ', left.Take(list ? int.MaxValue : 8))}{(left.Count > 8 && !list ? " …" : "")}");
}
