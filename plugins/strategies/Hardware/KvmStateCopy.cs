using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>Copies a processor's whole state between KVM and <see cref="VcpuState"/>.</summary>
internal static unsafe class KvmStateCopy
{
    /// <summary>xAPIC at its usual place. Where the local APIC is the machine's own, that says what the guest sees; KVM takes from this only whether CPUID shows an APIC.</summary>
    private const ulong ApicBaseAddress = 0xFEE0_0000;

    /// <param name="fd">The vCPU.</param>
    /// <param name="msrs">Its model-specific registers.</param>
    /// <param name="state">Where to.</param>
    /// <param name="ownApic">The local APIC is KVM's, and with it whether the processor is halted or waits for SIPI.</param>
    public static void Read(int fd, KvmMsrs msrs, VcpuState* state, bool ownApic)
    {
        KvmRegs regs;
        Must(fd, Kvm.GetRegs, &regs, "the general registers");
        ulong* gpr = state->Gpr;
        (gpr[0], gpr[1], gpr[2], gpr[3]) = (regs.Rax, regs.Rcx, regs.Rdx, regs.Rbx);
        (gpr[4], gpr[5], gpr[6], gpr[7]) = (regs.Rsp, regs.Rbp, regs.Rsi, regs.Rdi);
        for (int i = 0; i < 8; i++)
            gpr[8 + i] = regs.R8To15[i];
        (state->Rip, state->Rflags) = (regs.Rip, regs.Rflags);

        KvmSregs s;
        Must(fd, Kvm.GetSregs, &s, "the system registers");
        (state->CS, state->DS, state->ES, state->FS) = (From(s.Cs), From(s.Ds), From(s.Es), From(s.Fs));
        (state->GS, state->SS, state->TR, state->LDTR) = (From(s.Gs), From(s.Ss), From(s.Tr), From(s.Ldt));
        state->Gdtr = new DescriptorTable(s.Gdt.Base, s.Gdt.Limit);
        state->Idtr = new DescriptorTable(s.Idt.Base, s.Idt.Limit);
        (state->Cr0, state->Cr2, state->Cr3, state->Cr4, state->Efer) = (s.Cr0, s.Cr2, s.Cr3, s.Cr4, s.Efer);
        state->Cpl = !state->IsProtected ? (byte)0 : state->IsVirtual8086 ? (byte)3 : (byte)state->SS.Dpl;

        ReadDebug(fd, state);
        msrs.Read(state);
        ReadExtended(fd, state);
        ReadEvents(fd, state);
        if (ownApic)
            ReadActivity(fd, state);
    }

    /// <param name="fd">The vCPU.</param>
    /// <param name="msrs">Its model-specific registers.</param>
    /// <param name="state">Where from.</param>
    /// <param name="bootstrap">vCPU 0.</param>
    /// <param name="ownApic">The local APIC is KVM's: its base is not touched here.</param>
    public static void Write(int fd, KvmMsrs msrs, VcpuState* state, bool bootstrap, bool ownApic)
    {
        ulong* gpr = state->Gpr;
        var regs = new KvmRegs
        {
            Rax = gpr[0], Rcx = gpr[1], Rdx = gpr[2], Rbx = gpr[3], Rsp = gpr[4], Rbp = gpr[5], Rsi = gpr[6], Rdi = gpr[7],
            Rip = state->Rip, Rflags = state->Rflags | Rflags.Fixed1,
        };
        for (int i = 0; i < 8; i++)
            regs.R8To15[i] = gpr[8 + i];

        KvmSregs s;
        Must(fd, Kvm.GetSregs, &s, "the system registers");
        (s.Cs, s.Ds, s.Es, s.Fs) = (To(state->CS), To(state->DS), To(state->ES), To(state->FS));
        (s.Gs, s.Ss, s.Tr, s.Ldt) = (To(state->GS), To(state->SS), To(state->TR), To(state->LDTR));
        (s.Gdt.Base, s.Gdt.Limit) = (state->Gdtr.Base, state->Gdtr.Limit);
        (s.Idt.Base, s.Idt.Limit) = (state->Idtr.Base, state->Idtr.Limit);
        (s.Cr0, s.Cr2, s.Cr3, s.Cr4, s.Efer) = (state->Cr0, state->Cr2, state->Cr3, state->Cr4, state->Efer);
        if (!ownApic)
            s.ApicBase = ApicBaseAddress | Msr.ApicBaseEnable | (bootstrap ? Msr.ApicBaseBsp : 0);
        for (int i = 0; i < 4; i++)
            s.InterruptBitmap[i] = 0;
        Must(fd, Kvm.SetSregs, &s, "the system registers");
        Must(fd, Kvm.SetRegs, &regs, "the general registers");

        WriteDebug(fd, state);
        msrs.Write(state);
        WriteExtended(fd, state);
        WriteEvents(fd, state);
        if (ownApic)
            WriteActivity(fd, state);
    }

    private static void ReadActivity(int fd, VcpuState* state)
    {
        uint activity;
        Must(fd, Kvm.GetMpState, &activity, "whether it runs");
        // A triple fault is known here alone.
        if (state->MpState != MpState.Shutdown)
            state->MpState = activity switch
            {
                Kvm.MpHalted => MpState.Halted,
                Kvm.MpUninitialized or Kvm.MpInitReceived => MpState.WaitForSipi,
                _ => MpState.Runnable,
            };
    }

    private static void WriteActivity(int fd, VcpuState* state)
    {
        // "Uninitialized" would wait for an INIT, too.
        uint activity = state->MpState switch
        {
            MpState.Halted => Kvm.MpHalted,
            MpState.WaitForSipi => Kvm.MpInitReceived,
            _ => Kvm.MpRunnable,
        };
        Must(fd, Kvm.SetMpState, &activity, "to run or to wait");
    }

    private static void Must(int fd, nuint request, void* argument, string what)
    {
        if (LinuxCalls.Ioctl(fd, request, argument) < 0)
            throw new VirtException("StrategyUnavailable", $"KVM refused {what}: {LinuxCalls.ErrorText()}.");
    }

    private static SegmentRegister From(in KvmSegment s)
    {
        uint attributes = (uint)(s.Type | s.S << 4 | s.Dpl << 5 | s.Present << 7 | s.Avl << 12 | s.L << 13 | s.Db << 14 | s.G << 15);
        return new SegmentRegister(s.Selector, s.Base, s.Limit, s.Unusable != 0 ? attributes | SegmentRegister.Unusable : attributes);
    }

    private static KvmSegment To(in SegmentRegister s) => new()
    {
        Base = s.Base,
        Limit = s.Limit,
        Selector = s.Selector,
        Type = (byte)(s.Attributes & 15),
        S = Bit(s, 4),
        Dpl = (byte)s.Dpl,
        Present = Bit(s, 7),
        Avl = Bit(s, 12),
        L = Bit(s, 13),
        Db = Bit(s, 14),
        G = Bit(s, 15),
        Unusable = Bit(s, 16),
    };

    private static byte Bit(in SegmentRegister s, int bit) => (byte)(s.Attributes >> bit & 1);

    private static void ReadDebug(int fd, VcpuState* state)
    {
        KvmDebugRegs d;
        Must(fd, Kvm.GetDebugRegs, &d, "the debug registers");
        (state->Dr0, state->Dr1, state->Dr2, state->Dr3) = (d.Db[0], d.Db[1], d.Db[2], d.Db[3]);
        (state->Dr6, state->Dr7) = (d.Dr6, d.Dr7);
    }

    private static void WriteDebug(int fd, VcpuState* state)
    {
        KvmDebugRegs d = default;
        (d.Db[0], d.Db[1], d.Db[2], d.Db[3]) = (state->Dr0, state->Dr1, state->Dr2, state->Dr3);
        (d.Dr6, d.Dr7) = (state->Dr6, state->Dr7);
        Must(fd, Kvm.SetDebugRegs, &d, "the debug registers");
    }

    private static void ReadExtended(int fd, VcpuState* state)
    {
        byte* area = stackalloc byte[4096];
        Must(fd, Kvm.GetXsave, area, "the XSAVE area");
        Buffer.MemoryCopy(area, state->Xsave, VcpuState.XsaveSize, VcpuState.AvxXsaveSize);
        KvmXcrs xcrs;
        if (LinuxCalls.Ioctl(fd, Kvm.GetXcrs, &xcrs) >= 0 && xcrs.Count > 0)
            state->Xcr0 = xcrs.Xcr0;
    }

    private static void WriteExtended(int fd, VcpuState* state)
    {
        KvmXcrs xcrs = default;
        (xcrs.Count, xcrs.Xcr0) = (1, state->Xcr0);
        _ = LinuxCalls.Ioctl(fd, Kvm.SetXcrs, &xcrs);
        byte* area = stackalloc byte[4096];
        Must(fd, Kvm.GetXsave, area, "the XSAVE area");
        Buffer.MemoryCopy(state->Xsave, area, 4096, VcpuState.AvxXsaveSize);
        // XSTATE_BV: everything copied counts as present, and AVX-512, which a guest of KVM's is not offered, never.
        *(ulong*)(area + 512) = *(ulong*)(area + 512) & ~Xcr0.Avx512 | Xcr0.X87 | Xcr0.Sse | (state->Xcr0 & Xcr0.Avx);
        Must(fd, Kvm.SetXsave, area, "the XSAVE area");
    }

    public static void ReadEvents(int fd, VcpuState* state)
    {
        KvmVcpuEvents e;
        Must(fd, Kvm.GetVcpuEvents, &e, "the pending events");
        TakeNmi(fd, &e, state);
        state->NmiBlocked = e.NmiMasked != 0;
        state->InterruptShadow = (e.InterruptShadow & Kvm.ShadowMovSs) != 0 ? InterruptShadow.MovSs
            : (e.InterruptShadow & Kvm.ShadowSti) != 0 ? InterruptShadow.Sti : InterruptShadow.None;
        state->Pending = default;
        if (e.ExceptionInjected != 0)
            state->Pending = new PendingEvent { Vector = e.ExceptionNumber, Kind = EventKind.HardwareException, HasErrorCode = e.ExceptionHasErrorCode != 0, ErrorCode = e.ExceptionErrorCode };
        else if (e.InterruptInjected != 0)
            state->Pending = new PendingEvent { Vector = e.InterruptNumber, Kind = e.InterruptSoft != 0 ? EventKind.SoftwareInterrupt : EventKind.ExternalInterrupt };
        else if (e.NmiInjected != 0)
            state->Pending = new PendingEvent { Vector = Vector.NMI, Kind = EventKind.Nmi };
    }

    /// <summary>An NMI that waits in KVM (given to it, or sent by a local APIC of its own) becomes a request: who saves the state or asks what wakes the processor looks there.</summary>
    private static void TakeNmi(int fd, KvmVcpuEvents* e, VcpuState* state)
    {
        if (e->NmiPending == 0)
            return;
        (e->NmiPending, e->Flags) = (0, Kvm.VcpuEventValidNmiPending | Kvm.VcpuEventValidShadow);
        Must(fd, Kvm.SetVcpuEvents, e, "the pending events");
        Interlocked.Or(ref state->Requests, (uint)VcpuRequests.Nmi);
    }

    private static void WriteEvents(int fd, VcpuState* state)
    {
        KvmVcpuEvents e;
        Must(fd, Kvm.GetVcpuEvents, &e, "the pending events");
        // Given to KVM but not yet taken by the guest: it becomes a request again.
        if (e.NmiPending != 0)
            Interlocked.Or(ref state->Requests, (uint)VcpuRequests.Nmi);
        PendingEvent p = state->Pending;
        (e.ExceptionInjected, e.InterruptInjected, e.NmiInjected, e.NmiPending, e.ExceptionPending) = (0, 0, 0, 0, 0);
        e.NmiMasked = state->NmiBlocked ? (byte)1 : (byte)0;
        e.InterruptShadow = state->InterruptShadow switch
        {
            InterruptShadow.MovSs => Kvm.ShadowMovSs,
            InterruptShadow.Sti => Kvm.ShadowSti,
            _ => 0,
        };
        if (p.Kind is EventKind.HardwareException or EventKind.SoftwareException)
            (e.ExceptionInjected, e.ExceptionNumber, e.ExceptionHasErrorCode, e.ExceptionErrorCode) = (1, p.Vector, p.HasErrorCode ? (byte)1 : (byte)0, p.ErrorCode);
        else if (p.Kind is EventKind.ExternalInterrupt or EventKind.SoftwareInterrupt)
            (e.InterruptInjected, e.InterruptNumber, e.InterruptSoft) = (1, p.Vector, p.Kind == EventKind.SoftwareInterrupt ? (byte)1 : (byte)0);
        else if (p.Kind == EventKind.Nmi)
            e.NmiInjected = 1;
        e.Flags = Kvm.VcpuEventValidNmiPending | Kvm.VcpuEventValidShadow;
        Must(fd, Kvm.SetVcpuEvents, &e, "the pending events");
    }
}
