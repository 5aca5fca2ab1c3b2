namespace VirtPS.Sdk.Machine;

/// <summary>What to wait for.</summary>
public enum WaitTarget
{
    Running,
    Off,

    /// <summary>Some vCPU has executed in guest ring 3 during this run.</summary>
    Ring3,

    /// <summary>Console output of this run matches a pattern.</summary>
    Console,
}
