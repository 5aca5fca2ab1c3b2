using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;

namespace VirtPS.Engine;

public sealed partial class Machine : IRunnerOwner
{
    // How long a backend may take to leave guest code: far more than any should, far less than a person waits.
    private static readonly TimeSpan s_stopTimeout = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Switches the machine on: devices reset, guest loaded, vCPUs run (or stand ready, with <paramref name="startPaused"/>). What the starter throws comes back here, and the machine has ended.
    /// </summary>
    public void PowerOn(bool startPaused = false) => _control.Invoke(() =>
    {
        Require(VmState.Off);
        if (_started)
            throw new VirtException("InvalidVMState", $"VM '{Configuration.Name}': this machine has run already. Build a new one.", null, Configuration.Name);
        _started = true;
        SetState(VmState.Starting, MachineCause.Requested, "Starting.");
        try
        {
            ResetParts(ResetKind.Cold);
            StartGuest();
        }
        catch (Exception e)
        {
            SetState(VmState.Off, MachineCause.Failure, e.Message);
            throw;
        }

        _board.Timer.Start();
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.Start(paused: true);
        if (startPaused)
            SetState(VmState.Paused, MachineCause.Requested, "Started, paused.");
        else
            Go("Started.");
        return true;
    });

    /// <summary>Stops all vCPUs between two instructions, the clock, and the devices' host work.</summary>
    public void Pause() => _control.Invoke(() =>
    {
        Require(VmState.Running);
        StopVcpus();
        _board.Clock.Stop();
        OrCrash(_partition.Pause);
        Freeze();
        SetState(VmState.Paused, MachineCause.Requested, "Paused.");
        return true;
    });

    public void Resume() => _control.Invoke(() =>
    {
        Require(VmState.Paused);
        Go("Resumed.");
        return true;
    });

    /// <summary>The reset button: the guest starts anew; memory keeps what the guest left except where it is loaded. Paused stays paused.</summary>
    public void Reset(string reason = "Reset.") => _control.Invoke(() =>
    {
        Require(VmState.Running, VmState.Paused);
        Restart(MachineCause.Requested, reason);
        return true;
    });

    /// <summary>Pulls the plug. Nothing when the machine has ended.</summary>
    public void PowerOff(string reason = "Turned off.") => _control.Invoke(() =>
    {
        if (_started && State is not (VmState.Off or VmState.Crashed))
            End(VmState.Off, MachineCause.Requested, reason, null);
        return true;
    });

    /// <summary>Presses the power button; false when the platform has none.</summary>
    public bool PressPowerButton() => _control.Invoke(() =>
    {
        Require(VmState.Running);
        using (_board.Gate.Hold())
        {
            if (_board.Find<IPowerButton>() is not { } button)
                return false;
            button.Press();
            return true;
        }
    });

    void IRunnerOwner.OnTripleFault(VcpuRunner runner)
    {
        string reason = Describe(runner);
        foreach (VcpuRunner other in _board.Vcpus)
            other.RequestPause();
        _control.Post(() =>
        {
            if (State != VmState.Running)
                return;
            if (Configuration.OnTripleFault == GuestResetAction.Restart)
                TryRestart(MachineCause.TripleFault, reason);
            else
                End(VmState.Crashed, MachineCause.TripleFault, reason, null);
        });
    }

    void IRunnerOwner.OnFailure(string reason, Exception? exception)
    {
        _log.Write(LogLevel.Error, exception is null ? reason : $"{reason} {exception}");
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.RequestPause();
        _control.Post(() =>
        {
            if (_started && State is not (VmState.Off or VmState.Crashed))
                End(VmState.Crashed, MachineCause.Failure, reason, null);
        });
    }

    internal void GuestPowerOff(string reason, int? exitCode)
    {
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.RequestPause();
        _control.Post(() =>
        {
            if (State is VmState.Running or VmState.Paused)
                End(VmState.Off, MachineCause.GuestPowerOff, reason, exitCode);
        });
    }

    internal void GuestReset(string reason)
    {
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.RequestPause();
        _control.Post(() =>
        {
            if (State is not (VmState.Running or VmState.Paused))
                return;
            if (Configuration.OnReset == GuestResetAction.Restart)
                TryRestart(MachineCause.GuestReset, reason);
            else
                End(VmState.Off, MachineCause.GuestReset, reason, null);
        });
    }

    private void Go(string reason)
    {
        _board.Clock.Start();
        // Before the devices, whose interrupts its controllers take: after the clock, which its own timers follow.
        OrCrash(_partition.Resume);
        _board.Enlightenment?.Resumed();
        using (_board.Gate.Hold())
        {
            foreach ((_, IDevice device) in _devices)
                device.Resume();
            _board.Timer.Resume();
        }

        // Running is said before the first instruction: a guest may end at once, and that must come after.
        SetState(VmState.Running, MachineCause.Requested, reason);
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.Resume();
    }

    /// <summary>What the backend refuses here costs the machine: nothing of it could go on.</summary>
    private void OrCrash(Action partition)
    {
        try
        {
            partition();
        }
        catch (VirtException e)
        {
            End(VmState.Crashed, MachineCause.Failure, e.Message, null);
            throw;
        }
    }

    private void StopVcpus()
    {
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.RequestPause();
        foreach (VcpuRunner runner in _board.Vcpus)
        {
            if (!runner.WaitPaused(s_stopTimeout))
                throw new VirtException("VcpuHangs", $"vCPU {runner.Index} did not leave guest code within {s_stopTimeout.TotalSeconds:0} s.", "Turn the VM off.", Configuration.Name);
        }
    }

    private void Freeze()
    {
        _board.Clock.Stop();
        using (_board.Gate.Hold())
        {
            _board.Timer.Hold();
            // What the guest asked for last, by doorbell, becomes host work that Quiesce waits for.
            _board.Timer.DrainPosted();
            foreach ((_, IDevice device) in _devices)
                device.Quiesce();
            // What was under way has completed and belongs to the devices' state.
            _board.Timer.DrainPosted();
        }
    }

    private void TryRestart(MachineCause cause, string reason)
    {
        try
        {
            Restart(cause, reason);
        }
        catch (Exception e)
        {
            _log.Write(LogLevel.Error, $"The guest could not be started again: {e}");
            End(VmState.Crashed, MachineCause.Failure, $"{reason} The guest could not be started again: {e.Message}", null);
        }
    }

    private void Restart(MachineCause cause, string reason)
    {
        bool running = State == VmState.Running;
        StopVcpus();
        ResetParts(ResetKind.Warm);
        StartGuest();
        _log.Write(LogLevel.Information, $"Reset: {reason}");
        foreach (IMachineObserver observer in _observers)
            observer.WasReset(this, cause, reason);
        if (!running)
            return;
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.Resume();
    }

    private unsafe void ResetParts(ResetKind kind)
    {
        _partition.InterruptController?.Reset();
        _board.Enlightenment?.Reset();
        using (_board.Gate.Hold())
        {
            foreach ((_, IDevice device) in _devices)
                device.Reset(kind);
        }

        foreach (VcpuRunner runner in _board.Vcpus)
        {
            VcpuState* state = runner.State;
            runner.Vcpu.SynchronizeState();
            VcpuState.Reset(state, init: false, bootstrap: runner.Index == 0);
            // RESET clears the TSC (SDM Vol. 3A table 9-1); the machine's clock runs on.
            state->TscOffset = 0 - _board.Clock.MachineTsc;
            state->Requests = 0;
            runner.Vcpu.CommitState();
            runner.StateReplaced();
        }
    }

    private unsafe void StartGuest()
    {
        if (_starter is null)
            return;
        VcpuRunner bootstrap = _board.Vcpus[0];
        _starter.Start(new GuestStart
        {
            Memory = _board.Memory,
            Configuration = Configuration,
            VcpuCount = VcpuCount,
            Bootstrap = bootstrap.State,
            Platform = _board.Platform,
            Nondeterminism = _source,
            Log = _log,
        });
        bootstrap.Vcpu.CommitState();
    }

    private void End(VmState state, MachineCause cause, string reason, int? exitCode)
    {
        ExitCode = exitCode;
        SetState(VmState.Stopping, cause, reason);
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.RequestStop();
        bool stopped = true;
        foreach (VcpuRunner runner in _board.Vcpus)
        {
            if (runner.WaitStopped(s_stopTimeout))
                continue;
            stopped = false;
            _log.Write(LogLevel.Error, $"vCPU {runner.Index} did not leave guest code within {s_stopTimeout.TotalSeconds:0} s.");
        }

        Freeze();
        // Before the end is said: whoever waits for it may start the next run at once.
        if (stopped)
            _partition.Finish();
        SetState(state, cause, reason);
    }

    /// <summary>On the vCPU's own thread.</summary>
    private unsafe string Describe(VcpuRunner runner)
    {
        VcpuState* s = runner.State;
        byte[] code = ReadLinear(runner.Vcpu, LinearRip(s), MaxInstructionLength);
        string bytes = code.Length == 0 ? "not readable" : Convert.ToHexString(code);
        return $"Triple fault on vCPU {runner.Index} at {s->CS.Selector:X4}:{s->Rip:X} ({s->Mode}, CR0 {s->Cr0:X}, CR2 {s->Cr2:X}, CR3 {s->Cr3:X}, RSP {s->Gpr[(int)X86.Gpr.Rsp]:X}, RFLAGS {s->Rflags:X}), code {bytes}.";
    }
}

/// <summary>What the guest can do to its machine through a device.</summary>
internal sealed class MachineControl(int vcpuCount) : IMachineControl
{
    private Machine? _machine;

    // The address line is always open (no backend can close it); the guest reads back what it set.
    public bool A20 { get; set; } = true;

    public int VcpuCount { get; } = vcpuCount;

    public void Connect(Machine machine) => _machine = machine;

    public void RequestPowerOff(string reason, int? exitCode = null) => _machine?.GuestPowerOff(reason, exitCode);

    public void RequestReset(string reason) => _machine?.GuestReset(reason);
}
