using VirtPS.Sdk.Machine;

namespace VirtPS.Engine;

/// <summary>Why a machine changed its state.</summary>
public enum MachineCause
{
    /// <summary>Somebody outside asked (start, pause, turn off …).</summary>
    Requested,

    /// <summary>The guest switched itself off.</summary>
    GuestPowerOff,

    /// <summary>The guest reset itself.</summary>
    GuestReset,

    /// <summary>A vCPU shut down after a triple fault.</summary>
    TripleFault,

    /// <summary>The backend or a device cannot go on.</summary>
    Failure,
}

/// <summary>One change of state. <paramref name="ExitCode"/> is what a guest gave (debug-exit port), else null.</summary>
public sealed record MachineStateChange(VmState From, VmState To, MachineCause Cause, string Reason, int? ExitCode, DateTimeOffset At);

/// <summary>Learns what happens to a machine. Called on the machine's control thread, in order; must return soon and may call the machine.</summary>
public interface IMachineObserver
{
    void StateChanged(Machine machine, MachineStateChange change);

    /// <summary>The machine was reset and goes on running (state stays Running).</summary>
    void WasReset(Machine machine, MachineCause cause, string reason)
    {
    }
}
