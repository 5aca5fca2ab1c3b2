namespace VirtPS.Engine.Running;

/// <summary>What a vCPU's runner and host tell their machine. Any thread; returns at once (the machine acts on its control thread).</summary>
internal interface IRunnerOwner
{
    /// <summary>The vCPU has shut down; it waits for a reset or the end.</summary>
    void OnTripleFault(VcpuRunner runner);

    /// <summary>The machine cannot go on.</summary>
    void OnFailure(string reason, Exception? exception);
}
