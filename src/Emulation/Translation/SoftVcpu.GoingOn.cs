using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Behind an interpreted instruction that left its block: system calls and their returns, IRET, what changes a control register. Mostly nothing waits and the code at RIP is known, so
// that generated code can go on there at once, without the way round by the outer loops.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>The outer loop has to look for the block at RIP, which no jump led to; it shall be found here next time.</summary>
    private bool _wantsJump;

    /// <summary>
    /// Has <see cref="Stubs.Resume"/> go on at RIP. False: the outer loop has something to do first (all that <see cref="RunGuest"/> looks at), or the jump cache does not know the place. Status flags are in their lazy form.
    /// </summary>
    private bool GoesOn()
    {
        if (S->MpState != MpState.Runnable || S->Pending.IsPending || DebugTrapWaits || S->InterruptShadow != InterruptShadow.None || DebugActive || (S->Rflags & Rflags.TF) != 0 || _lockStep is not null)
            return false;
        uint mode = N->Mode;
        // Jump caches do not lead to code that may reach user pages under SMAP (FillJump).
        if (!BlockTranslator.Handles(mode) || (mode & CodeMode.SmapOff) != 0)
            return false;
        SetRequestMask();
        if ((Volatile.Read(ref S->Requests) & N->RequestMask) != 0 || Volatile.Read(ref *(uint*)_memory.Hot(VcpuMemory.AttentionOffset)) != 0)
            return false;
        KeepJumpsOf(mode);
        byte* code = ((mode & CodeMode.User) != 0 ? _userJumps! : _supervisorJumps!).Find(S->Rip);
        if (code == null)
        {
            _wantsJump = true;
            return false;
        }

        ulong* retired = _memory.Hot(VcpuMemory.RetiredOffset);
        S->InstructionsRetired += *retired;
        *retired = 0;
        CountInstructions();
        N->Leave = 0;
        *_memory.Hot(VcpuMemory.PageBaseOffset) = S->Rip & ~0xFFFul;
        *_memory.Hot(VcpuMemory.FlagsOffset) = Stubs.PackFlags(N->StatusFlags());
        // The code loads what it needs of vector and x87 registers.
        (N->Resume, N->ExitSite) = ((ulong)code, 0);
        return true;
    }
}
