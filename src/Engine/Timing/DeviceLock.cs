using System.Runtime.CompilerServices;

namespace VirtPS.Engine;

/// <summary>
/// The machine's device lock: device code of one machine never runs on two threads at once. Re-entrant. With one vCPU it is biased towards that vCPU's thread,
/// which then takes it with two plain stores; everybody else pays with a process-wide memory barrier.
/// </summary>
public sealed class DeviceLock
{
    private readonly Lock _lock = new();
    private readonly bool _biased;

    // The thread for which the lock is biased; 0 = none.
    private int _owner;
    private int _depth;
    private bool _ownerHoldsLock;
    private int _busy;
    private int _claimed;

    // Both under _lock.
    private int _otherDepth;
    private bool _biasActive;

    /// <param name="biased">One vCPU: its thread calls <see cref="AdoptCurrentThread"/>.</param>
    public DeviceLock(bool biased) => _biased = biased;

    /// <summary>Makes the calling thread the one that takes the lock cheaply. Once, before it takes the lock.</summary>
    public void AdoptCurrentThread()
    {
        if (!_biased)
            return;
        SetBias(true);
        Volatile.Write(ref _owner, Environment.CurrentManagedThreadId);
    }

    /// <summary>The adopted thread ends: thread ids are used again.</summary>
    public void ReleaseThread()
    {
        if (_owner != Environment.CurrentManagedThreadId)
            return;
        Volatile.Write(ref _owner, 0);
        SetBias(false);
    }

    /// <summary>The adopted thread goes to sleep, or is back: in between it does not take the lock, and others need no barrier. Nothing on another thread.</summary>
    public void SetAsleep(bool asleep)
    {
        if (_owner == Environment.CurrentManagedThreadId)
            SetBias(!asleep);
    }

    private void SetBias(bool active)
    {
        lock (_lock)
            _biasActive = active;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Enter()
    {
        if (_owner == Environment.CurrentManagedThreadId)
            EnterAsOwner();
        else
            EnterAsOther();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Exit()
    {
        if (_owner == Environment.CurrentManagedThreadId)
            ExitAsOwner();
        else
            ExitAsOther();
    }

    /// <summary>Takes the lock until the result is disposed.</summary>
    public Scope Hold()
    {
        Enter();
        return new Scope(this);
    }

    public readonly ref struct Scope(DeviceLock gate)
    {
        public void Dispose() => gate.Exit();
    }

    private void EnterAsOwner()
    {
        if (_depth++ > 0)
            return;
        // No fence between this store and the load: EnterAsOther makes one in this thread with a process-wide barrier, so that one of the two sees the other.
        Volatile.Write(ref _busy, 1);
        if (Volatile.Read(ref _claimed) == 0)
            return;
        Volatile.Write(ref _busy, 0);
        _lock.Enter();
        _ownerHoldsLock = true;
    }

    private void ExitAsOwner()
    {
        if (--_depth > 0)
            return;
        if (_ownerHoldsLock)
        {
            _ownerHoldsLock = false;
            _lock.Exit();
        }
        else
        {
            Volatile.Write(ref _busy, 0);
        }
    }

    private void EnterAsOther()
    {
        _lock.Enter();
        if (!_biased || _otherDepth++ > 0)
            return;
        Volatile.Write(ref _claimed, 1);
        if (!_biasActive)
            return;
        Interlocked.MemoryBarrierProcessWide();
        var spin = new SpinWait();
        while (Volatile.Read(ref _busy) != 0)
            spin.SpinOnce(sleep1Threshold: -1);
    }

    private void ExitAsOther()
    {
        if (_biased && --_otherDepth == 0)
            Volatile.Write(ref _claimed, 0);
        _lock.Exit();
    }
}
