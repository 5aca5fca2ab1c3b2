namespace VirtPS.Sdk.Machine;

/// <summary>State of a VM, with Hyper-V's meanings; <see cref="Crashed"/> is ours: the last run ended without being stopped.</summary>
public enum VmState
{
    Off,
    Starting,
    Running,
    Paused,
    Saving,
    Saved,
    Stopping,
    Crashed,
}
