using Iced.Intel;
using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Hosting;
using VirtPS.Worker.Machines;

namespace VirtPS.Worker.Inspection;

/// <summary>
/// Asks the vCPUs about once a millisecond where they are and counts the answers. A vCPU answers between two instructions, in generated code where that looks for requests: at the end of a
/// loop's round, an indirect branch or return, or after an interpreted instruction. So a sample names the block that comes next, and straight code before it is counted there.
/// </summary>
internal sealed class HotSpotSampler(VmRun run)
{
    private const int MaxInstructions = 16, CodeBytes = 96;
    private const double MaxSeconds = 3600;
    private const int MaxSpots = 1000;

    private readonly record struct Place(ulong Address, int? Ring, ulong? Cr3, CpuMode? Mode);

    private sealed class Count
    {
        public int Samples;
        public required CapturedVcpu First { get; init; }
    }

    /// <summary>Samples for some seconds (0.01 to 3600); the hottest places first. Ends early, with what there is, when the guest does.</summary>
    public async Task<HotSpot[]> SampleAsync(IWorkerMachine machine, double seconds, int first, CancellationToken cancellation)
    {
        if (!(seconds is >= 0.01 and <= MaxSeconds) || first is < 1 or > MaxSpots)
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"Sampling for {seconds} s with {first} places cannot be done.", $"Give 0.01 to {MaxSeconds} seconds and 1 to {MaxSpots} places.", seconds);
        if (machine.State != VmState.Running)
            throw new VirtException(ErrorIds.InvalidVMState, $"VM '{run.Configuration.Name}' is {machine.State}: only a running VM has hot spots.", "Start or resume it first.", run.Configuration.Name);
        var counts = new Dictionary<Place, Count>();
        int halted = 0;
        // Not in step with the guest's own timers.
        var jitter = new Random();
        for (long end = Environment.TickCount64 + (long)(seconds * 1000); Environment.TickCount64 < end && machine.State == VmState.Running;)
        {
            foreach (CapturedVcpu v in machine.CaptureRings())
                halted += Add(counts, v) ? 0 : 1;
            await Task.Delay(1 + jitter.Next(2), cancellation).ConfigureAwait(false);
        }

        int total = counts.Values.Sum(c => c.Samples);
        return [.. counts.OrderByDescending(c => c.Value.Samples).ThenBy(c => c.Key.Address).Take(first).Select(c => Create(machine, c.Key, c.Value, total, halted))];
    }

    private static bool Add(Dictionary<Place, Count> counts, CapturedVcpu v)
    {
        if (v.State.MpState is not (null or MpState.Runnable))
            return false;
        var place = new Place(v.LinearRip, v.State.GuestRing, v.State.GuestRing == 3 ? v.State.Cr3 : null, v.State.Mode);
        if (!counts.TryGetValue(place, out Count? count))
            counts.Add(place, count = new Count { First = v });
        count.Samples++;
        return true;
    }

    private HotSpot Create(IWorkerMachine machine, Place place, Count count, int total, int halted) => new()
    {
        VMName = run.Configuration.Name,
        VMId = run.Id,
        Address = place.Address,
        Ring = place.Ring,
        Cr3 = place.Cr3,
        Mode = place.Mode,
        // The translator takes 64-bit code alone.
        Execution = count.First.State.Execution == ExecutionKind.Translated && place.Mode != CpuMode.Long ? ExecutionKind.Interpreted : count.First.State.Execution,
        Samples = count.Samples,
        Share = (double)count.Samples / total,
        HaltedSamples = halted,
        Instructions = Code(machine, place, count.First),
        CapturedAt = DateTimeOffset.UtcNow,
    };

    /// <summary>Of a kernel read now; of a program what was there when it was first seen: another may be mapped now.</summary>
    private List<VirtDisassemblyLine> Code(IWorkerMachine machine, Place place, CapturedVcpu seen)
    {
        ReadOnlyMemory<byte> code = seen.Code;
        byte[] more = new byte[CodeBytes];
        if (place.Ring != 3 && machine.State is VmState.Running or VmState.Paused && machine.ReadLinear(seen.State.Vcpu, place.Address, more) is var read && read > code.Length)
            code = more.AsMemory(0, read);
        var lines = new List<VirtDisassemblyLine>();
        foreach (Disassembler.Line line in Disassembler.Decode(code, place.Address, seen.Bitness, MaxInstructions))
        {
            lines.Add(new VirtDisassemblyLine
            {
                VMId = run.Id,
                VMName = run.Configuration.Name,
                Vcpu = seen.State.Vcpu,
                Address = line.Address,
                Bytes = Convert.ToHexString(line.Bytes.Span),
                Instruction = line.Text,
                IsCurrent = false,
            });
            if (EndsBlock(line, seen.Bitness))
                break;
        }

        return lines;
    }

    private static bool EndsBlock(Disassembler.Line line, int bitness) =>
        Decoder.Create(bitness, line.Bytes.ToArray(), line.Address).Decode().FlowControl is not (FlowControl.Next or FlowControl.ConditionalBranch);
}
