using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Client;

/// <content>Rings.</content>
public sealed partial class VirtHost
{
    /// <summary>One <see cref="RingState"/> per vCPU.</summary>
    public async Task<IReadOnlyList<RingState>> GetRingStatesAsync(Guid id, CancellationToken cancellation = default) =>
        await InvokeAsync<RingState[]>(id, "be asked for its rings", RpcMethods.GetRingStates, [], cancellation).ConfigureAwait(false);

    /// <summary>Totals since power-on, one per vCPU.</summary>
    public async Task<IReadOnlyList<RingMeasurement>> MeasureRingAsync(Guid id, CancellationToken cancellation = default) =>
        await InvokeAsync<RingMeasurement[]>(id, "be measured", RpcMethods.MeasureRing, [], cancellation).ConfigureAwait(false);

    /// <summary>Samples a running VM for <paramref name="duration"/> (10 ms to an hour) and gives its hottest places, at most <paramref name="first"/> (1 to 1000).</summary>
    public async Task<IReadOnlyList<HotSpot>> GetHotSpotsAsync(Guid id, TimeSpan duration, int first, CancellationToken cancellation = default) =>
        await InvokeAsync<HotSpot[]>(id, "be sampled", RpcMethods.GetHotSpots, [duration.TotalSeconds, first], cancellation).ConfigureAwait(false);

    /// <summary>
    /// Executes <paramref name="count"/> instructions (1 to 1,000,000) of one vCPU one at a time, while the others stand still, and gives every ring transition among them: with fidelity
    /// <see cref="RingFidelity.Exact"/>, whatever the strategy. Ends early after <paramref name="limit"/>; <see cref="RingSpan.InstructionCount"/> says how far it came.
    /// </summary>
    public async Task<RingSpan> StepRingAsync(Guid id, int vcpu, int count, bool includeSameRing, TimeSpan limit, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await RequireLiveAsync(id, "be stepped", cancellation).ConfigureAwait(false);
        WireRingSteps steps = await InvokeAsync<WireRingSteps>(id, "be stepped", RpcMethods.StepRing, [vcpu, count, includeSameRing, limit.TotalSeconds], cancellation).ConfigureAwait(false);
        var factory = new RingTransitionFactory(seen.Document.Configuration.Name, id, RingFidelity.Exact);
        return new RingSpan(factory.Create(steps.Events, long.MaxValue), steps.Instructions);
    }

    /// <summary>
    /// Ring transitions as they happen, until cancelled, <see cref="TraceOptions.MaxEvents"/>, or the VM stops. A slow reader loses events, never slows the
    /// guest; the batches say how many. When the enumeration begins to run, tracing has begun.
    /// </summary>
    public async IAsyncEnumerable<RingTransitionBatch> TraceRingAsync(Guid id, TraceOptions? options = null, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        options ??= new TraceOptions();
        StateReader.Observation seen = await RequireLiveAsync(id, "be traced", cancellation).ConfigureAwait(false);
        var hello = new HelloRequest { Channel = Channel.Rings, VMId = id, IncludeSameRing = options.IncludeSameRing, Vcpus = options.Vcpus };
        (Stream stream, HelloReply reply) = await WorkerConnection.OpenAsync(seen.Document.Run!, hello, cancellation).ConfigureAwait(false);
        await using (stream.ConfigureAwait(false))
        {
            var factory = new RingTransitionFactory(seen.Document.Configuration.Name, id, reply.RingFidelity, reply.HypercallNames);
            var records = new RecordReader(stream);
            long left = options.MaxEvents ?? long.MaxValue;
            while (left > 0 && await records.ReadAsync(cancellation).ConfigureAwait(false))
            {
                if (records.Kind == RecordKind.End)
                    break;
                if (records.Kind != RecordKind.Data)
                    continue;
                RingTransition[] transitions = factory.Create(records.Payload.Span, left);
                left -= transitions.Length;
                yield return new RingTransitionBatch(transitions, records.Dropped);
            }
        }
    }
}

/// <summary>Makes objects of ring events as they travel.</summary>
internal sealed class RingTransitionFactory(string vmName, Guid vmId, RingFidelity fidelity, IReadOnlyList<string>? hypercalls = null)
{
    /// <summary>Names of the exceptions (SDM Vol. 3A table 6-1), by vector.</summary>
    private static readonly string?[] ExceptionNames =
    [
        "#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", null, "#TS", "#NP", "#SS", "#GP", "#PF", null,
        "#MF", "#AC", "#MC", "#XM", "#VE", "#CP",
    ];

    private readonly string[] _softwareInterrupts = [.. Enumerable.Range(0, 256).Select(v => $"int 0x{v:x}")];

    /// <summary>The first <paramref name="limit"/> of the events in <paramref name="payload"/>.</summary>
    public RingTransition[] Create(ReadOnlySpan<byte> payload, long limit)
    {
        ReadOnlySpan<RingEvent> events = MemoryMarshal.Cast<byte, RingEvent>(payload);
        var transitions = new RingTransition[(int)Math.Min(events.Length, limit)];
        for (int i = 0; i < transitions.Length; i++)
            transitions[i] = Create(in events[i]);
        return transitions;
    }

    private RingTransition Create(in RingEvent e)
    {
        bool hasVector = e.Cause is RingCause.Interrupt or RingCause.Exception or RingCause.SoftwareInterrupt or RingCause.Nmi;
        bool isHypercall = e.Cause == RingCause.Hypercall;
        return new RingTransition
        {
            VMName = vmName,
            VMId = vmId,
            Vcpu = e.Vcpu,
            From = e.FromRing,
            To = (sbyte)e.ToRing,
            Cause = e.Cause,
            Vector = hasVector || isHypercall ? e.Vector : null,
            Name = NameOf(in e),
            Detail = e.Detail,
            FromRip = e.FromRip,
            ToRip = isHypercall ? 0 : e.ToRip,
            Arguments = isHypercall ? [e.Detail, e.ToRip] : null,
            FromMode = e.FromMode,
            ToMode = e.ToMode,
            GuestTsc = e.Tsc,
            VMNanoseconds = e.Nanoseconds,
            Fidelity = fidelity,
        };
    }

    private string? NameOf(in RingEvent e) => e.Cause switch
    {
        RingCause.Exception => e.Vector < ExceptionNames.Length ? ExceptionNames[e.Vector] : null,
        RingCause.SoftwareInterrupt => e.Vector < 256 ? _softwareInterrupts[e.Vector] : null,
        RingCause.Nmi => "NMI",
        RingCause.Hypercall => hypercalls is not null && e.Vector < hypercalls.Count && hypercalls[e.Vector] is { Length: > 0 } name ? name : $"hypercall {e.Vector}",
        _ => null,
    };
}
