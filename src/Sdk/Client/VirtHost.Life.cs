using System.Diagnostics;
using VirtPS.Client.Platform;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>Power.</content>
public sealed partial class VirtHost
{
    private static readonly TimeSpan DefaultStopTimeout = TimeSpan.FromSeconds(60);

    /// <summary>A worker that cannot turn its machine off by then is ended itself.</summary>
    private static readonly TimeSpan TurnOffPatience = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Powers on; returns when the guest is about to execute its first instruction. The VM outlives this process. Errors: InvalidVMState, WorkerNotFound,
    /// WorkerStartFailed, and what the machine says (ImageInvalid …).
    /// </summary>
    public async Task<VirtualMachine> StartAsync(Guid id, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (seen.Live)
            throw InvalidState(seen, "be started", seen.State == VmState.Paused ? "Resume it (Resume-VirtVM)." : "Nothing needs to be done, or use Restart-VirtVM.");
        IReadOnlyList<string> command = WorkerLocator.Find(_options);
        await WorkerLauncher.StartAsync(command, WorkerArguments("--vm", id.ToString("D")), cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>
    /// Stops. With <see cref="StopKind.PowerButton"/> waits up to <paramref name="timeout"/> (default 60 s) for the guest, then throws GuestDidNotStop and leaves the
    /// VM running. A VM that is Off stays as it is; turning off a Crashed one makes it Off.
    /// </summary>
    public async Task<VirtualMachine> StopAsync(Guid id, StopKind kind, TimeSpan? timeout = null, CancellationToken cancellation = default)
    {
        StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
        if (!seen.Live)
            return await StopDeadAsync(seen, kind, cancellation).ConfigureAwait(false);
        if (kind == StopKind.TurnOff)
            await TurnOffAsync(seen, cancellation).ConfigureAwait(false);
        else
            await PressAndWaitAsync(seen, timeout ?? DefaultStopTimeout, cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Restarts; with <see cref="RestartKind.PowerButton"/> as <see cref="StopAsync"/> and then start.</summary>
    public async Task<VirtualMachine> RestartAsync(Guid id, RestartKind kind, TimeSpan? timeout = null, CancellationToken cancellation = default)
    {
        if (kind == RestartKind.Reset)
        {
            await InvokeAsync<object?>(id, "be reset", RpcMethods.Reset, [], cancellation).ConfigureAwait(false);
            return await GetAsync(id, cancellation).ConfigureAwait(false);
        }

        await RequireLiveAsync(id, "be restarted", cancellation).ConfigureAwait(false);
        await StopAsync(id, StopKind.PowerButton, timeout, cancellation).ConfigureAwait(false);
        return await StartAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Running → Paused: guest time stands still.</summary>
    public async Task<VirtualMachine> SuspendAsync(Guid id, CancellationToken cancellation = default)
    {
        await InvokeAsync<object?>(id, "be suspended", RpcMethods.Pause, [], cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>Paused → Running.</summary>
    public async Task<VirtualMachine> ResumeAsync(Guid id, CancellationToken cancellation = default)
    {
        await InvokeAsync<object?>(id, "be resumed", RpcMethods.Resume, [], cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    /// <summary>What every worker must know: the store, the module, the registry of plugins.</summary>
    private IEnumerable<string> WorkerArguments(params IEnumerable<string> specific)
    {
        IEnumerable<string> all = [.. specific, "--store", StorePath, "--plugin-registry", Plugins.RegistryFile];
        return Plugins.ModuleFolder is { } module ? [.. all, "--module", module] : all;
    }

    private async Task<VirtualMachine> StopDeadAsync(StateReader.Observation seen, StopKind kind, CancellationToken cancellation)
    {
        if (seen.State != VmState.Crashed)
            return _states.ToVirtualMachine(seen);
        if (kind == StopKind.PowerButton)
            throw InvalidState(seen, "be shut down", "Start it, or use -TurnOff to have it count as Off.");
        Guid id = seen.Document.Configuration.Id;
        await ModifyOfflineAsync(id, "be turned off", d => d.With(CloseRun(d, seen.Reason)), cancellation).ConfigureAwait(false);
        return await GetAsync(id, cancellation).ConfigureAwait(false);
    }

    private static RunRecord CloseRun(VmDocument document, string reason) =>
        document.Run! with { EndedAt = document.Run.EndedAt ?? DateTimeOffset.Now, EndState = VmState.Off, Reason = reason };

    private async Task PressAndWaitAsync(StateReader.Observation seen, TimeSpan timeout, CancellationToken cancellation)
    {
        if (seen.State != VmState.Running)
            throw InvalidState(seen, "be shut down by its power button", "Resume it first, or use -TurnOff.");
        Guid id = seen.Document.Configuration.Id;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(timeout);
        try
        {
            await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, RpcMethods.PowerButton, [], limit.Token).ConfigureAwait(false);
            await WorkerConnection.InvokeAsync<object?>(id, seen.Document.Run!, RpcMethods.WaitOff, [], limit.Token).ConfigureAwait(false);
        }
        catch (VirtException e) when (e.ErrorId == ErrorIds.WorkerGone)
        {
            // It stopped between our calls; what state it is in now, the store says.
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new VirtException(ErrorIds.GuestDidNotStop, $"The guest of VM '{seen.Document.Configuration.Name}' did not switch itself off within {timeout.TotalSeconds:0.###} s of its power button being pressed. The VM is left running.", "Wait longer (-Timeout), or use -TurnOff.", seen.Document.Configuration.Name, e);
        }

        await WaitReleasedAsync(seen, cancellation).ConfigureAwait(false);
    }

    private async Task TurnOffAsync(StateReader.Observation seen, CancellationToken cancellation)
    {
        Guid id = seen.Document.Configuration.Id;
        RunRecord run = seen.Document.Run!;
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        limit.CancelAfter(TurnOffPatience);
        try
        {
            // A worker that has just been silent for the time of a handshake will not answer this either.
            if (seen.Status is null)
                throw new VirtException(ErrorIds.WorkerNotResponding, seen.Reason);
            await WorkerConnection.InvokeAsync<object?>(id, run, RpcMethods.TurnOff, [], limit.Token).ConfigureAwait(false);
            await WaitReleasedAsync(seen, limit.Token).ConfigureAwait(false);
        }
        catch (VirtException e) when (e.ErrorId == ErrorIds.WorkerGone)
        {
            await WaitReleasedAsync(seen, cancellation).ConfigureAwait(false);
        }
        catch (Exception e) when (e is OperationCanceledException && !cancellation.IsCancellationRequested || e is VirtException { ErrorId: ErrorIds.WorkerNotResponding })
        {
            EndWorker(run);
            StorePaths.RemoveSocket(run);
            await WaitReleasedAsync(seen, cancellation).ConfigureAwait(false);
            await ModifyOfflineAsync(id, "be turned off", d => d.Run == run ? d.With(CloseRun(d, "Turned off by ending the worker, which did not answer.")) : d, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>The process id alone may be somebody else's by now.</summary>
    private static void EndWorker(RunRecord run)
    {
        if (HostIdentity.GetProcessStartTime(run.WorkerProcessId) != run.WorkerStartTime)
            return;
        try
        {
            using var process = Process.GetProcessById(run.WorkerProcessId);
            process.Kill();
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException)
        {
            // It has just ended by itself.
        }
    }

    /// <summary>Until the worker has let go of the VM, so that the next command finds it free.</summary>
    private async Task WaitReleasedAsync(StateReader.Observation seen, CancellationToken cancellation)
    {
        for (int delay = 1; _store.IsLocked(seen.Document.Configuration.Id); delay = Math.Min(delay * 2, 50))
        {
            // Another shell may have started the VM anew already.
            if (_store.TryLoad(seen.Document.Configuration.Id)?.Run?.RunId != seen.Document.Run!.RunId)
                return;
            await Task.Delay(delay, cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Changes vm.json under the VM's lock. Errors: InvalidVMState while a worker holds it, VMBusy.</summary>
    private async Task<VmDocument> ModifyOfflineAsync(Guid id, string what, Func<VmDocument, VmDocument> change, CancellationToken cancellation)
    {
        FileLock? held = await TryLockOfflineAsync(id, cancellation).ConfigureAwait(false);
        if (held is null)
        {
            StateReader.Observation seen = await ObserveAsync(id, cancellation).ConfigureAwait(false);
            throw seen.Live
                ? InvalidState(seen, what, "Turn it off first (Stop-VirtVM).")
                : new VirtException(ErrorIds.VMBusy, $"VM '{seen.Document.Configuration.Name}' is being changed by another process.", "Try again.", seen.Document.Configuration.Name);
        }

        using (held)
        {
            VmDocument changed = change(_store.Load(id));
            _store.Save(changed, held);
            return changed;
        }
    }

    /// <summary>The VM's lock; null as soon as a worker is seen to hold it, or when it stays taken.</summary>
    private async Task<FileLock?> TryLockOfflineAsync(Guid id, CancellationToken cancellation)
    {
        long end = Environment.TickCount64 + (long)LockPatience.TotalMilliseconds;
        do
        {
            if (await _store.LockAsync(id, TimeSpan.FromMilliseconds(100), cancellation).ConfigureAwait(false) is { } held)
                return held;
            if ((await ObserveAsync(id, cancellation).ConfigureAwait(false)).Live)
                return null;
        }
        while (Environment.TickCount64 < end);
        return null;
    }
}
