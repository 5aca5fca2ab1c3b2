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
int steps = 6, maximum = 20;
bool list = false, trace = false;
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
        case "--list": list = true; break;
        case "--trace": trace = true; break;
        default:
            Console.Error.WriteLine("usage: VirtPS.Opcodes [--count N] [--seed N] [--code substring-of-Iced-code] [--steps N] [--max-differences N] [--list] [--trace]");
            return 2;
    }
}

var catalog = new Catalog();
List<Code> codes = [.. catalog.Codes.Where(c => filter == null || c.ToString().Contains(filter, StringComparison.OrdinalIgnoreCase))];
if (codes.Count == 0)
{
    Console.Error.WriteLine($"No instruction form contains '{filter}'.");
    return 2;
}

var clock = Stopwatch.StartNew();
using var oracle = new Oracle(seed, catalog, codes, Console.Out) { Trace = trace };
while (oracle.Instructions < count && oracle.Differences < maximum && oracle.CanContinue)
    oracle.RunOne(steps);

Console.WriteLine($"{oracle.Instructions} instructions, {oracle.Covered.Count} of {codes.Count} forms, {oracle.Differences} differences, seed {seed}, {clock.Elapsed.TotalSeconds:F1} s");
if (filter == null)
{
    List<Code> unseen = [.. oracle.NeverSeen()];
    if (unseen.Count > 0)
        Console.WriteLine($"tried without an instance ({unseen.Count}): {string.Join(' ', unseen.Take(list ? int.MaxValue : 20))}");
    foreach ((string reason, List<Code> left) in catalog.Left)
        Console.WriteLine($"not covered, {reason} ({left.Count}): {string.Join(' ', left.Take(list ? int.MaxValue : 8))}{(left.Count > 8 && !list ? " …" : "")}");
}

return oracle.Differences == 0 ? 0 : 1;
