using System.Globalization;
using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Commands;

/// <summary>Get-VirtRingState: in which ring each virtual processor is now, as the guest sees it, as the textbook draws it, and as the host runs it.</summary>
[Cmdlet(VerbsCommon.Get, "VirtRingState", DefaultParameterSetName = NameSet)]
[OutputType(typeof(RingState))]
public sealed class GetVirtRingState : VirtVMCmdlet
{
    private protected override void Process(VirtualMachine vm) =>
        WriteObject(Await(token => VirtHost.GetRingStatesAsync(vm.Id, token)), enumerateCollection: true);
}

/// <summary>Measure-VirtRing: totals since power-on by ring, cause and exit reason.</summary>
[Cmdlet(VerbsDiagnostic.Measure, "VirtRing", DefaultParameterSetName = NameSet)]
[OutputType(typeof(RingMeasurement))]
public sealed class MeasureVirtRing : VirtVMCmdlet
{
    private protected override void Process(VirtualMachine vm) =>
        WriteObject(Await(token => VirtHost.MeasureRingAsync(vm.Id, token)), enumerateCollection: true);
}

/// <summary>Trace-VirtRing: ring transitions as they happen.</summary>
[Cmdlet(VerbsDiagnostic.Trace, "VirtRing", DefaultParameterSetName = NameSet)]
[OutputType(typeof(RingTransition))]
public sealed class TraceVirtRing : VirtVMCmdlet
{
    /// <summary>Ends after this many events.</summary>
    [Parameter]
    [ValidateRange(1L, long.MaxValue)]
    public long? MaxEvents { get; set; }

    /// <summary>Seconds.</summary>
    [Parameter]
    [ValidateRange(0.001, 31536000.0)]
    public double? Timeout { get; set; }

    /// <summary>Also interrupts and exceptions that do not change the ring.</summary>
    [Parameter]
    public SwitchParameter IncludeSameRing { get; set; }

    /// <summary>Only these virtual processors.</summary>
    [Parameter]
    public int[]? Vcpu { get; set; }

    /// <summary>Executes this many instructions one at a time and ends: every transition among them is seen, also where the strategy does not report them.</summary>
    [Parameter]
    [ValidateRange(1, 1_000_000)]
    public int? InstructionCount { get; set; }

    private void Step(VirtualMachine vm, int count)
    {
        foreach (int vcpu in Vcpu ?? [0])
        {
            RingSpan span = Await(token => VirtHost.StepRingAsync(vm.Id, vcpu, count, IncludeSameRing, TimeSpan.FromSeconds(Timeout ?? 60), token));
            WriteObject(MaxEvents is { } most ? span.Transitions.Take((int)Math.Min(most, int.MaxValue)) : span.Transitions, enumerateCollection: true);
            WriteVerbose(string.Create(CultureInfo.InvariantCulture, $"'{vm.Name}', vCPU {vcpu}: {span.InstructionCount:N0} instructions, {span.Transitions.Count:N0} transitions."));
            if (span.InstructionCount < count)
                WriteWarning(string.Create(CultureInfo.InvariantCulture, $"'{vm.Name}', vCPU {vcpu}: only {span.InstructionCount:N0} of {count:N0} instructions were executed; it halted for the rest of the time, or the guest ended."));
        }
    }

    private protected override void Process(VirtualMachine vm)
    {
        if (InstructionCount is { } count)
        {
            Step(vm, count);
            return;
        }

        var options = new TraceOptions { IncludeSameRing = IncludeSameRing, MaxEvents = MaxEvents, Vcpus = Vcpu };
        ulong dropped = 0;
        using CancellationTokenSource limit = Timeout is { } seconds ? new CancellationTokenSource(TimeSpan.FromSeconds(seconds)) : new CancellationTokenSource();
        foreach (RingTransitionBatch batch in Stream(token => UntilTimeoutAsync(vm.Id, options, limit.Token, token)))
        {
            WriteObject(batch.Transitions, enumerateCollection: true);
            dropped = batch.Dropped;
        }

        if (dropped > 0)
            WriteWarning(string.Create(CultureInfo.InvariantCulture, $"{dropped:N0} transitions of '{vm.Name}' came faster than they were read and are missing."));
    }

    private async IAsyncEnumerable<RingTransitionBatch> UntilTimeoutAsync(
        Guid id, TraceOptions options, CancellationToken timeout, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken stop)
    {
        using var either = CancellationTokenSource.CreateLinkedTokenSource(timeout, stop);
        await using IAsyncEnumerator<RingTransitionBatch> batches = VirtHost.TraceRingAsync(id, options, either.Token).GetAsyncEnumerator(either.Token);
        while (true)
        {
            try
            {
                if (!await batches.MoveNextAsync().ConfigureAwait(false))
                    yield break;
            }
            catch (OperationCanceledException) when (timeout.IsCancellationRequested && !stop.IsCancellationRequested)
            {
                // The time asked for is over: the regular end.
                yield break;
            }

            yield return batches.Current;
        }
    }
}
