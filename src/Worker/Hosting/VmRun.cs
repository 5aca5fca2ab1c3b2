using System.Diagnostics;
using System.Globalization;
using VirtPS.Client;
using VirtPS.Client.Platform;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Console;
using VirtPS.Worker.Machines;
using VirtPS.Worker.Rings;

namespace VirtPS.Worker.Hosting;

/// <summary>
/// One run of one VM: the lock, vm.json, the machine, its console and its end. The order matters: the lock is held from before the first write until after the last;
/// the record of the run is on disk before the guest runs, and its end is on disk before the lock is free.
/// </summary>
internal sealed class VmRun : IDisposable
{
    private static readonly TimeSpan RingPatience = TimeSpan.FromMilliseconds(300);

    private readonly VmStore _store;
    private readonly FileLock _lock;
    private readonly Lock _gate = new();
    private readonly long _poweredOn;
    private VmDocument _document;
    private CpuUsage? _usage;
    private Task<IWorkerMachine>? _making;
    private string? _notStarted;

    private VmRun(VmStore store, FileLock held, VmDocument document)
    {
        (_store, _lock, _document) = (store, held, document);
        _poweredOn = Stopwatch.GetTimestamp();
        Log = new WorkerLog(store.Paths.WorkerLog(document.Configuration.Id));
        Console = new ConsoleHub(new ConsoleLogFiles(store.Paths.ConsoleLogs(document.Configuration.Id), Log));
        Id = document.Configuration.Id;
        RunId = Guid.NewGuid();
        Socket = StorePaths.SocketFor(RunId);
    }

    public Guid Id { get; }

    public Guid RunId { get; }

    public string Socket { get; }

    public WorkerLog Log { get; }

    public ConsoleHub Console { get; }

    /// <summary>Null until it has been made.</summary>
    public IWorkerMachine? Machine { get; private set; }

    public TraceHub? Trace { get; private set; }

    public VmConfiguration Configuration
    {
        get
        {
            lock (_gate)
                return _document.Configuration;
        }
    }

    /// <summary>Takes the VM's lock and begins a run. Errors: VMNotFound, InvalidVMState when another worker has it, StoreUnreadable, StoreWriteFailed.</summary>
    public static VmRun Begin(WorkerOptions options)
    {
        var store = new VmStore(new StorePaths(options.StorePath));
        Guid id = options.VMId!.Value;
        // A shell holds the lock for the time of one change.
        FileLock held = store.LockAsync(id, TimeSpan.FromSeconds(2), CancellationToken.None).GetAwaiter().GetResult()
            ?? throw new VirtException(ErrorIds.InvalidVMState, $"VM '{store.Load(id).Configuration.Name}' is being started, or runs already.", "Get-VirtVM says which.", id);
        try
        {
            return new VmRun(store, held, store.Load(id));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            held.Dispose();
            throw new VirtException(ErrorIds.StoreWriteFailed, $"Cannot write in '{store.Paths.Folder(id)}': {e.Message}", "Make room on the disk, or check the rights of the folder.", id, e);
        }
        catch
        {
            held.Dispose();
            throw;
        }
    }

    /// <summary>Writes that the run has begun. From now on a worker that dies leaves a Crashed VM.</summary>
    public void RecordStart()
    {
        if (_document.Run is { } former)
            StorePaths.RemoveSocket(former);
        Change(d => d.With(new RunRecord
        {
            RunId = RunId,
            BootId = HostIdentity.GetBootId(),
            StartedAt = DateTimeOffset.Now,
            WorkerProcessId = Environment.ProcessId,
            WorkerStartTime = HostIdentity.GetProcessStartTime(Environment.ProcessId) ?? 0,
            Socket = Socket,
        }));
    }

    /// <summary>Begins to make the machine on another thread, while this one goes on. <see cref="PowerOn"/> waits for it.</summary>
    public void BeginMaking(IWorkerMachineFactory factory, WorkerOptions options)
    {
        VmConfiguration configuration = Configuration;
        _making = Task.Run(() => factory.Create(configuration, Console, Log, options));
    }

    /// <summary>Starts the guest. What was wrong with the machine comes back here, too; the run must then be ended by <see cref="RecordEnd"/>.</summary>
    public void PowerOn()
    {
        Machine = _making!.GetAwaiter().GetResult();
        Trace = new TraceHub(Machine);
        Machine.PowerOn();
        _usage = new CpuUsage(Machine);
    }

    /// <summary>The guest could not be started; the VM is Off for this reason.</summary>
    public void NotStarted(string reason) => _notStarted = reason;

    /// <summary>Writes how the run ended. Not being able to is logged: a later look then finds an unfinished run, and says Crashed.</summary>
    public void RecordEnd(MachineEnd end)
    {
        try
        {
            Change(d => d.With(d.Run! with
            {
                EndedAt = DateTimeOffset.Now,
                EndState = end.State,
                Reason = end.Reason,
                ExitCode = end.ExitCode,
                ReachedRing3 = HasReachedRing3(),
                ConsoleDropped = Console.Dropped,
            }));
        }
        catch (VirtException e)
        {
            Log.Write(LogLevel.Error, $"The end of the run ({end.State}: {end.Reason}) could not be recorded: {e.Message}");
        }
    }

    /// <summary>Changes what users set while the machine runs.</summary>
    public void Configure(Func<VmConfiguration, VmConfiguration> change) => Change(d => d.With(change(d.Configuration)));

    public WorkerStatus GetStatus()
    {
        IWorkerMachine? machine = Machine;
        VmState state = machine?.State ?? VmState.Starting;
        // Between the machine's making and its power-on it is Off, which is not what a VM with a worker is.
        if (state == VmState.Off && machine?.Completion.IsCompleted != true)
            state = _notStarted is null ? VmState.Starting : VmState.Off;
        return new WorkerStatus
        {
            RunId = RunId,
            State = state,
            Reason = _notStarted ?? machine?.StatusReason ?? "",
            ProcessId = Environment.ProcessId,
            Tier = machine?.Tier,
            MemoryAssigned = machine?.MemoryAssigned ?? 0,
            CpuUsage = _usage?.Percent ?? 0,
            UptimeMilliseconds = (long)Stopwatch.GetElapsedTime(_poweredOn).TotalMilliseconds,
            Ring = state is VmState.Running or VmState.Paused ? DescribeRings(machine!) : null,
            ExitCode = machine?.ExitCode,
        };
    }

    /// <summary>Whether any vCPU has executed in guest ring 3; false where the backend cannot know and none is there now.</summary>
    public bool HasReachedRing3()
    {
        if (Machine is not { } machine)
            return false;
        foreach (RingMeasurement m in machine.MeasureRings())
        {
            if (m.Instructions is { Count: > 3 } counts ? counts[3] > 0 : m.Time is { Count: > 3 } times && times[3] > TimeSpan.Zero)
                return true;
        }

        return false;
    }

    /// <summary>The VM is free for the next run; nothing may be written in its folder any more.</summary>
    public void ReleaseLock()
    {
        Log.Dispose();
        _lock.Dispose();
    }

    /// <summary>Lets go of everything.</summary>
    public void Dispose()
    {
        _usage?.Dispose();
        Trace?.Dispose();
        DisposeMachine();
        Console.Dispose();
        ReleaseLock();
    }

    private void DisposeMachine()
    {
        // A run that ended before it could be recorded may have a machine that nobody has asked for yet. What was wrong with that one does not matter any more.
        if (Machine is null && _making is { } making && ((IAsyncResult)making).AsyncWaitHandle.WaitOne() && making.IsCompletedSuccessfully)
            Machine = making.Result;
        Machine?.Dispose();
    }

    /// <summary>Ends what the machine's end ends: traces and console complete, so that their followers get the rest and then the end.</summary>
    public void CompleteStreams()
    {
        Trace?.Complete();
        Console.Complete();
    }

    /// <summary>A vCPU that does not let itself be asked must not keep the answer waiting: its ring is not known.</summary>
    private static string? DescribeRings(IWorkerMachine machine)
    {
        Task<string?> look = Task.Run(() =>
        {
            try
            {
                IReadOnlyList<CapturedVcpu> vcpus = machine.CaptureRings();
                return vcpus.Any(v => v.State.GuestRing is null)
                    ? null
                    : string.Join(',', vcpus.Select(v => v.State.GuestRing!.Value.ToString(CultureInfo.InvariantCulture)));
            }
            catch (VirtException)
            {
                // It has just ended.
                return null;
            }
        });
        return look.Wait(RingPatience) ? look.Result : null;
    }

    private void Change(Func<VmDocument, VmDocument> change)
    {
        lock (_gate)
        {
            VmDocument changed = change(_document);
            _store.Save(changed, _lock);
            _document = changed;
        }
    }
}
