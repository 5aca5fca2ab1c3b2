using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.Strategy.Para.Boot;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

/// <summary>Where a guest kernel wants a trap.</summary>
internal struct TrapEntry
{
    public ulong Address;
    public ushort Selector;

    /// <summary>Bits 0–1: privilege level that may raise it by software; bit 2: events are masked on entry.</summary>
    public byte Flags;
}

// Entering the guest kernel: frames on its stack (public/arch-x86/xen.h).
internal sealed unsafe partial class XenVcpu
{
    private const byte MaskEvents = 4;

    /// <summary>Callback types (public/callback.h).</summary>
    private const int EventCallback = 0, FailsafeCallback = 1, SyscallCallback = 2, NmiCallback = 4, SysenterCallback = 5, Syscall32Callback = 7, CallbackCount = 8;

    private readonly TrapEntry[] _traps = new TrapEntry[256];
    private readonly TrapEntry[] _callbacks = new TrapEntry[CallbackCount];
    private ulong _kernelStack;
    private ushort _kernelStackSegment;

    /// <summary>Another vCPU has sent one; it has been delivered and the kernel has not returned by the hypercall IRET since.</summary>
    private bool _nmiPending, _inNmi;

    private void ResetTraps()
    {
        _traps.AsSpan().Clear();
        _callbacks.AsSpan().Clear();
        (_kernelStack, _kernelStackSegment) = (0, 0);
        _nmiPending = _inNmi = false;
    }

    public SupervisorEffect Event(VcpuState* s)
    {
        try
        {
            FinishPoll();
            if (!EventIsDue)
                return SupervisorEffect.None;
            DeliverEvent(s);
            return SupervisorEffect.All;
        }
        catch (Exception e) when (Domain.NoteFailure(e))
        {
            throw;
        }
    }

    /// <summary>What is due: an NMI first, else the event upcall, always with events masked.</summary>
    private void DeliverEvent(VcpuState* s)
    {
        if (NmiIsDue)
        {
            Volatile.Write(ref _nmiPending, false);
            // Without a handler it is lost, as in Xen.
            if (_traps[Vector.NMI].Address != 0)
            {
                _inNmi = true;
                Bounce(s, _traps[Vector.NMI], null, RingCause.Nmi, Vector.NMI, 0);
                return;
            }

            if (!EventIsDue)
                return;
        }

        Bounce(s, _callbacks[EventCallback] with { Flags = MaskEvents }, null, RingCause.Interrupt, 0, 0);
    }

    private void DeliverTrap(VcpuState* s, int vector, uint? error)
    {
        if (vector == Vector.PF)
            Info->Cr2 = s->Cr2;
        Bounce(s, _traps[vector], error, RingCause.Exception, vector, error ?? 0);
    }

    /// <summary>
    /// Pushes a frame on the kernel's stack and enters the handler. Whatever is wrong with that stack or handler is the end of the domain: there is nowhere to report it to.
    /// </summary>
    private void Bounce(VcpuState* s, in TrapEntry entry, uint? error, RingCause cause, int vector, ulong detail)
    {
        ulong fromRip = s->Rip;
        bool user = s->GuestKernel == 0;
        if (entry.Address == 0)
        {
            Crash(s, $"no handler for {(cause == RingCause.Exception ? Vector.Mnemonic(vector) ?? $"vector {vector}" : cause.ToString())}{(error is { } e ? $"(0x{e:X})" : "")}.");
            return;
        }

        byte mask = Info->UpcallMask;
        ulong oldRsp = s->Gpr[(int)Gpr.Rsp];
        ulong* frame = stackalloc ulong[8];
        int n = 0;
        frame[n++] = s->Gpr[(int)Gpr.Rcx];
        frame[n++] = s->Gpr[(int)Gpr.R11];
        if (error is { } code)
            frame[n++] = code;
        frame[n++] = s->Rip;
        // RPL 0 tells the guest that it interrupted its own kernel; the event mask stands beside the selector.
        frame[n++] = (user ? (ulong)s->CS.Selector | 3 : s->CS.Selector & 0xFFFCul) | (ulong)mask << 32;
        frame[n++] = (s->Rflags & ~(Rflags.IF | Rflags.IoplMask)) | (mask == 0 ? Rflags.IF : 0);
        frame[n++] = oldRsp;
        frame[n++] = s->SS.Selector;
        if (user)
            SwitchTo(s, kernel: true);
        ulong rsp = ((user ? _kernelStack : oldRsp) & ~0xFul) - (ulong)(n * 8);
        if (!CopyTo(rsp, frame, n * 8))
        {
            Crash(s, $"the kernel's stack at 0x{rsp:X} cannot be written.");
            return;
        }

        if ((entry.Flags & MaskEvents) != 0)
            Info->UpcallMask = 1;
        s->Gpr[(int)Gpr.Rsp] = rsp;
        s->Rflags = (s->Rflags & ~(Rflags.TF | Rflags.NT | Rflags.RF | Rflags.VM | Rflags.AC)) | Rflags.IF;
        s->CS = VcpuStart.FlatCode;
        s->SS = VcpuStart.FlatData;
        s->Rip = entry.Address;
        Cpu.RecordTransfer(fromRip, user ? 3 : 0, cause, vector, detail);
    }

    private void Crash(VcpuState* s, string why)
    {
        Domain.ReportCrash(this, s, why);
        s->MpState = MpState.Shutdown;
    }
}
