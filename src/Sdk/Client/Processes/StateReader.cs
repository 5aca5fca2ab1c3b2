using VirtPS.Client.Platform;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Processes;

/// <summary>
/// Finds out in which state a VM is: from its worker where one answers, from the lock and the last run's record where none does. Nothing is assumed that was not
/// seen.
/// </summary>
internal sealed class StateReader(VmStore store, string hostId)
{
    private const int MaxRounds = 25;

    /// <summary>What is found; <paramref name="Live"/> when a worker holds the VM.</summary>
    public sealed record Observation(VmDocument Document, WorkerStatus? Status, VmState State, string Reason, bool Live);

    public async Task<Observation> ObserveAsync(VmDocument document, CancellationToken cancellation)
    {
        // A run may end, or a new one begin, between the looks; a few rounds find a moment in which they agree.
        for (int round = 0; ; round++)
        {
            if (document.Run is not { EndedAt: null } run)
                return Ended(document);
            VirtException? silence = null;
            try
            {
                (Stream stream, HelloReply reply) = await WorkerConnection.OpenAsync(run, new HelloRequest { Channel = Channel.Status, VMId = document.Configuration.Id }, cancellation).ConfigureAwait(false);
                await stream.DisposeAsync().ConfigureAwait(false);
                if (reply.Status is { } status && status.RunId == run.RunId)
                    return new Observation(document, status, status.State, status.Reason, Live: true);
            }
            catch (VirtException e)
            {
                silence = e;
            }

            bool held = store.IsLocked(document.Configuration.Id);
            VmDocument now = store.Load(document.Configuration.Id);
            if (now.Run == run)
            {
                bool alive = HostIdentity.GetProcessStartTime(run.WorkerProcessId) == run.WorkerStartTime;
                // A lock that is not the worker's is some shell's, for one change: the run is over all the same.
                if (!held || (!alive && round >= MaxRounds))
                    return Vanished(now, run);
                if (alive && (round >= MaxRounds || silence?.ErrorId != ErrorIds.WorkerGone))
                    return new Observation(now, null, VmState.Running, silence?.Message ?? "", Live: true);
            }

            document = now;
            await Task.Delay(20, cancellation).ConfigureAwait(false);
        }
    }

    public VirtualMachine ToVirtualMachine(Observation seen)
    {
        VmConfiguration c = seen.Document.Configuration;
        return new VirtualMachine
        {
            Id = c.Id,
            HostId = hostId,
            Name = c.Name,
            State = seen.State,
            Strategy = c.Strategy,
            EngineTier = seen.Status?.Tier,
            ProcessorCount = c.ProcessorCount,
            Memory = c.Memory,
            MemoryAssigned = seen.Status?.MemoryAssigned ?? 0,
            CPUUsage = seen.Status?.CpuUsage ?? 0,
            Uptime = TimeSpan.FromMilliseconds(seen.Status?.UptimeMilliseconds ?? 0),
            WorkerProcessId = seen.Live ? seen.Status?.ProcessId ?? seen.Document.Run!.WorkerProcessId : null,
            StatusReason = seen.Reason,
            CreationTime = c.CreationTime,
            Path = store.Paths.Folder(c.Id),
            Ring = seen.Status?.Ring,
            Notes = c.Notes,
            BootKind = c.Boot.Kind,
            Kernel = c.Boot.Kernel,
            Initrd = c.Boot.Initrd,
            CommandLine = c.Boot.CommandLine,
            OnReset = c.OnReset,
            OnTripleFault = c.OnTripleFault,
            StrategyOptions = c.StrategyOptions,
            ExitCode = seen.Status is { } s ? s.ExitCode : seen.Document.Run?.ExitCode,
            RunId = seen.Document.Run?.RunId,
            CapturedAt = DateTimeOffset.Now,
        };
    }

    private static Observation Ended(VmDocument document) =>
        new(document, null, document.Run?.EndState ?? VmState.Off, document.Run?.Reason ?? "", Live: false);

    /// <summary>Nobody holds the lock, and the run was never said to be over.</summary>
    private Observation Vanished(VmDocument document, RunRecord run)
    {
        if (!HostIdentity.IsThisBoot(run.BootId))
            return new Observation(document, null, VmState.Off, "HostRestarted: the host was restarted while the VM ran.", Live: false);
        StorePaths.RemoveSocket(run);
        string log = store.Paths.WorkerLog(document.Configuration.Id);
        string reason = $"The worker (process {run.WorkerProcessId}) ended without stopping the VM: it was killed, or it failed; see '{log}'.";
        return new Observation(document, null, VmState.Crashed, reason, Live: false);
    }
}
