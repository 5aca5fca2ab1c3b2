using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>What a deprivileged guest's supervisor was told, and where the guest stood then.</summary>
public readonly record struct SupervisorCall(string Kind, ulong Rip, ulong Cr2, GuestTrap Trap);

/// <summary>Records what would enter ring 0. SYSCALL with RAX = <see cref="Stop"/> and every trap that <see cref="OnTrap"/> does not deal with halt the guest.</summary>
public sealed unsafe class RecordingSupervisor : IGuestSupervisor
{
    public const ulong Stop = 99;

    public List<SupervisorCall> Calls { get; } = [];

    /// <summary>SYSCALL; <c>None</c> when it is null. The argument is the address of the state.</summary>
    public Func<nint, SupervisorEffect>? OnCall { get; set; }

    /// <summary>An exception or INT n; null as the answer, or no function, halts the guest.</summary>
    public Func<nint, GuestTrap, SupervisorEffect?>? OnTrap { get; set; }

    public Func<nint, SupervisorEffect>? OnEvent { get; set; }

    public SupervisorEffect SystemCall(VcpuState* state)
    {
        Calls.Add(new SupervisorCall("syscall", state->Rip, state->Cr2, default));
        return state->Gpr[(int)Gpr.Rax] == Stop ? Halt(state) : OnCall?.Invoke((nint)state) ?? SupervisorEffect.None;
    }

    public SupervisorEffect Trap(VcpuState* state, in GuestTrap trap)
    {
        Calls.Add(new SupervisorCall("trap", state->Rip, state->Cr2, trap));
        return OnTrap?.Invoke((nint)state, trap) ?? Halt(state);
    }

    public SupervisorEffect Event(VcpuState* state)
    {
        Calls.Add(new SupervisorCall("event", state->Rip, state->Cr2, default));
        return OnEvent?.Invoke((nint)state) ?? SupervisorEffect.None;
    }

    private static SupervisorEffect Halt(VcpuState* state)
    {
        state->MpState = MpState.Halted;
        return SupervisorEffect.Mode;
    }
}
