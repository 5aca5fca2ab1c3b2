using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>A guest fault on its way from the instruction that met it to its delivery.</summary>
internal struct Fault
{
    public byte Vector;
    public bool HasError;

    /// <summary>RIP is already behind the instruction (a trap).</summary>
    public bool IsTrap;
    public uint Error;
    public ulong Cr2;
}

/// <summary>A virtual processor executed by the interpreter; see <see cref="IVcpu"/> for threading.</summary>
public sealed unsafe partial class SoftVcpu : IVcpu
{
    /// <summary>The architectural state. GPRs are current between instructions; status flags only through <see cref="GetFlags"/>.</summary>
    internal VcpuState* S;

    /// <summary>The machine around this vCPU.</summary>
    internal readonly IVcpuHost Host;

    internal SoftPartition Partition;

    /// <summary>The fault that a handler recorded before it returned false.</summary>
    internal Fault PendingFault;

    private readonly VcpuMemory _memory;
    private RingEventBuffer? _trace;

    internal SoftVcpu(SoftPartition partition, int index, IVcpuHost host)
    {
        Partition = partition;
        Index = index;
        Host = new HostGate(this, host);
        _memory = new VcpuMemory();
        S = &_memory.State->State;
        Counters = (RingCounters*)NativeMemory.AllocZeroed((nuint)sizeof(RingCounters));
        VcpuState.Reset(S, init: false, bootstrap: index == 0);
        InitializeMemory();
        InitializeVector();
        InitializeCode();
        CommitState();
    }

    public int Index { get; }

    public VcpuState* State => S;

    public RingCounters* Counters { get; }

    public RingEventBuffer? Trace
    {
        get => Volatile.Read(ref _trace);
        set => Volatile.Write(ref _trace, value);
    }

    /// <summary>The state with what the interpreter keeps beside it.</summary>
    internal NativeCpu* N
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => (NativeCpu*)S;
    }

    /// <summary>Some breakpoint in DR7 is enabled: every instruction and data access is looked at. Set by the system part on each DR7 or CR4.DE change.</summary>
    internal bool DebugActive;

    /// <summary>Records a fault without error code.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal bool Raise(int vector)
    {
        PendingFault = new Fault { Vector = (byte)vector };
        return false;
    }

    /// <summary>Records a fault with error code.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal bool Raise(int vector, uint errorCode)
    {
        PendingFault = new Fault { Vector = (byte)vector, HasError = true, Error = errorCode };
        return false;
    }

    /// <summary>Records a page fault; CR2 is set at delivery.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    internal bool RaisePageFault(ulong linear, uint error)
    {
        PendingFault = new Fault { Vector = Vector.PF, HasError = true, Error = error, Cr2 = linear };
        return false;
    }

    /// <summary>Ends the current block after this instruction: RIP, IF, a control register or the mode changed.</summary>
    internal void LeaveBlock() => N->Leave = 1;

    /// <summary>Sets RIP from a handler (already truncated to the mode's width) and leaves the block; the loop will not add the length.</summary>
    internal void SetRip(ulong rip)
    {
        S->Rip = rip;
        N->RipSet = 1;
        N->Leave = 1;
    }

    /// <summary>A near branch within the mode: like <see cref="SetRip"/> but execution goes straight on at the target.</summary>
    internal void Jump(ulong rip)
    {
        S->Rip = rip;
        N->RipSet = 1;
    }

    /// <summary>RIP of the instruction after <paramref name="op"/>, truncated to 16 or 32 bits by the code size.</summary>
    internal ulong NextRip(Op* op) => (S->Rip + op->Length) & N->RipMask;

    /// <summary>Whole RFLAGS with the status flags materialised.</summary>
    internal ulong GetFlags() => S->Rflags & ~Rflags.Status | N->StatusFlags();

    /// <summary>Sets all of RFLAGS. Bit 1 reads as one; a change of TF, IF or AC takes effect after the instruction (call <see cref="ModeChanged"/> for VM and AC).</summary>
    internal void SetFlags(ulong rflags)
    {
        S->Rflags = rflags | Rflags.Fixed1;
        N->SetStatusFlags(rflags);
    }

    public void Kick()
    {
        Interlocked.MemoryBarrier();
        // Loops in generated code look at the first; indirect branches miss after the second, and the miss looks.
        Volatile.Write(ref *(uint*)_memory.Hot(VcpuMemory.AttentionOffset), 1);
        _memory.SetJumpsOpen(false);
    }

    public void SynchronizeState()
    {
        S->Rflags = GetFlags();
        SynchronizeVector();
    }

    public void Dispose()
    {
        if (S == null)
            return;
        Partition.Remove(this);
        FreeMemory();
        FreeVector();
        FreeCode();
        _memory.Dispose();
        NativeMemory.Free(Counters);
        S = null;
    }
}
