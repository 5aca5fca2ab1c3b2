using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine;

/// <summary>
/// A virtual machine: partition, vCPUs, buses, devices, clock. Made by <see cref="MachineBuilder"/>; runs once, from <see cref="VmState.Off"/> through
/// <see cref="VmState.Running"/> to <see cref="VmState.Off"/> or <see cref="VmState.Crashed"/>. Thread-safe: changes of its life are served one after another on its control thread.
/// </summary>
public sealed partial class Machine : IDisposable
{
    private readonly Board _board;
    private readonly ICpuBackend _backend;
    private readonly IPartition _partition;
    private readonly NondeterminismSource _source;
    private readonly IGuestStarter? _starter;
    private readonly ILog _log;
    private readonly List<(string Name, IDevice Device)> _devices;
    private readonly List<IMachineObserver> _observers;
    private readonly ControlThread _control;
    private readonly MachineControl _guestControl;
    private readonly TaskCompletionSource<MachineStateChange> _completion = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private bool _started;
    private bool _disposed;

    internal Machine(MachineAssembly parts)
    {
        (_board, _backend, _partition, _source, _starter, _log) = (parts.Board, parts.Backend, parts.Partition, parts.Nondeterminism, parts.Starter, parts.Log);
        (_devices, Configuration, Strategy, _guestControl) = (parts.Devices, parts.Configuration, parts.Strategy, parts.Control);
        _observers = [.. parts.Observers];
        _control = new ControlThread("vm-control");
        _guestControl.Connect(this);
    }

    public VmConfiguration Configuration { get; }

    public IStrategy Strategy { get; }

    /// <summary>Short name of the CPU backend: <c>Interpreter</c>, <c>KVM</c> …</summary>
    public string Tier => _backend.Tier;

    public BackendCapabilities Capabilities => _backend.Capabilities;

    public int VcpuCount => _board.Vcpus.Length;

    public MachineClock Clock => _board.Clock;

    public GuestMemory Memory => _board.Memory;

    /// <summary>Bytes of host memory behind the guest's RAM now.</summary>
    public ulong ResidentMemory => Memory.Slots.Aggregate(0ul, (n, s) => n + s.Region.ResidentBytes);

    /// <summary>Where the machine is in its life.</summary>
    public VmState State { get; private set; } = VmState.Off;

    /// <summary>Why it is in that state; empty before power-on.</summary>
    public string StatusReason { get; private set; } = "";

    /// <summary>What the guest gave when it switched itself off (debug-exit port), else null.</summary>
    public int? ExitCode { get; private set; }

    /// <summary>Completes with the change to Off or Crashed.</summary>
    public Task<MachineStateChange> Completion => _completion.Task;

    /// <summary>The devices' names, in order of creation.</summary>
    public IReadOnlyList<string> DeviceNames => [.. _devices.Select(d => d.Name)];

    /// <summary>Waits until the machine has ended; null when it has not within <paramref name="timeout"/>.</summary>
    public MachineStateChange? WaitForEnd(TimeSpan timeout) => Completion.Wait(timeout) ? Completion.Result : null;

    /// <summary>Runs <paramref name="work"/> under the device lock soon; while paused, after the pause.</summary>
    public void Post(Action work) => _board.Timer.Post(work);

    /// <summary>Ends the machine if it runs and frees everything. Not from a vCPU's or the timer's thread.</summary>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _control.Invoke(() =>
        {
            if (_started && State is not (VmState.Off or VmState.Crashed))
                End(VmState.Off, MachineCause.Requested, "Disposed.", null);
            return true;
        });
        _control.Dispose();
        _board.Timer.Dispose();
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.Dispose();
        foreach ((_, IDevice device) in _devices)
            device.Dispose();
        _partition.Dispose();
        _board.Memory.Dispose();
        _backend.Dispose();
    }

    private void SetState(VmState to, MachineCause cause, string reason)
    {
        var change = new MachineStateChange(State, to, cause, reason, ExitCode, DateTimeOffset.UtcNow);
        State = to;
        StatusReason = reason;
        _log.Write(LogLevel.Information, $"{change.From} → {to}: {reason}");
        foreach (IMachineObserver observer in _observers)
            observer.StateChanged(this, change);
        if (_started && to is VmState.Off or VmState.Crashed)
            _completion.TrySetResult(change);
    }

    private void Require(params ReadOnlySpan<VmState> states)
    {
        foreach (VmState s in states)
        {
            if (State == s)
                return;
        }

        throw new VirtException("InvalidVMState", $"VM '{Configuration.Name}' is {State}; this needs it to be {string.Join(" or ", states.ToArray())}.", null, Configuration.Name);
    }
}
