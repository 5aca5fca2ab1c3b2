using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Engine;

/// <summary>One vCPU's whole state as it is saved: named, so that a later layout of <see cref="VcpuState"/> can read it.</summary>
public sealed unsafe record VcpuSnapshot
{
    public required ulong[] Gpr { get; init; }
    public required ulong Rip { get; init; }
    public required ulong Rflags { get; init; }
    public required byte Cpl { get; init; }
    public required InterruptShadow InterruptShadow { get; init; }
    public required bool NmiBlocked { get; init; }

    /// <summary>An NMI waits to be delivered.</summary>
    public required bool NmiPending { get; init; }
    public required MpState MpState { get; init; }

    /// <summary>The event accepted but not delivered; null for none.</summary>
    public required SavedEvent? Pending { get; init; }

    /// <summary>Indexed by <see cref="SegmentName"/>.</summary>
    public required SegmentRegister[] Segments { get; init; }
    public required DescriptorTable Gdtr { get; init; }
    public required DescriptorTable Idtr { get; init; }

    /// <summary>Control, debug and model-specific registers by name.</summary>
    public required IReadOnlyDictionary<string, ulong> Registers { get; init; }
    public required ulong[] Pdpte { get; init; }

    /// <summary>MSRs without a field of their own, in the backend's order.</summary>
    public required ulong[] OtherMsrs { get; init; }
    public required ulong TscOffset { get; init; }
    public required ulong TscAdjust { get; init; }
    public required ulong InstructionsRetired { get; init; }
    public required byte[] Xsave { get; init; }

    /// <summary>Copies a state that is up to date.</summary>
    public static VcpuSnapshot Take(VcpuState* s)
    {
        var registers = new Dictionary<string, ulong>();
        VisitRegisters(s, (string name, ref ulong value) => registers[name] = value);
        return new VcpuSnapshot
        {
            Gpr = [.. new ReadOnlySpan<ulong>(s->Gpr, 16)],
            Rip = s->Rip,
            Rflags = s->Rflags,
            Cpl = s->Cpl,
            InterruptShadow = s->InterruptShadow,
            NmiBlocked = s->NmiBlocked,
            NmiPending = (s->Requests & (uint)VcpuRequests.Nmi) != 0,
            MpState = s->MpState,
            Pending = s->Pending.IsPending ? new SavedEvent(s->Pending.Kind, s->Pending.Vector, s->Pending.HasErrorCode, s->Pending.ErrorCode, s->Pending.InstructionLength) : null,
            Segments = [.. new ReadOnlySpan<SegmentRegister>(&s->ES, 8)],
            Gdtr = s->Gdtr,
            Idtr = s->Idtr,
            Registers = registers,
            Pdpte = [.. new ReadOnlySpan<ulong>(s->Pdpte, 4)],
            OtherMsrs = [.. new ReadOnlySpan<ulong>(s->OtherMsrs, VcpuState.OtherMsrCount)],
            TscOffset = s->TscOffset,
            TscAdjust = s->TscAdjust,
            InstructionsRetired = s->InstructionsRetired,
            Xsave = [.. new ReadOnlySpan<byte>(s->Xsave, VcpuState.XsaveSize)],
        };
    }

    /// <summary>Writes a vCPU's state; the caller commits it. Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>) when something is missing.</summary>
    public void Apply(VcpuState* s)
    {
        if (Gpr.Length != 16 || Segments.Length != 8 || Pdpte.Length != 4 || OtherMsrs.Length > VcpuState.OtherMsrCount
            || Xsave.Length is not (VcpuState.XsaveSize or VcpuState.AvxXsaveSize))
            throw new VirtException("MachineStateInvalid", "The saved state of a vCPU has a list of the wrong length.");
        VisitRegisters(s, (string name, ref ulong value) => value = Registers.TryGetValue(name, out ulong saved)
            ? saved
            : throw new VirtException("MachineStateInvalid", $"The saved state of a vCPU lacks '{name}'."));
        Gpr.CopyTo(new Span<ulong>(s->Gpr, 16));
        Segments.CopyTo(new Span<SegmentRegister>(&s->ES, 8));
        Pdpte.CopyTo(new Span<ulong>(s->Pdpte, 4));
        OtherMsrs.CopyTo(new Span<ulong>(s->OtherMsrs, VcpuState.OtherMsrCount));
        // A state that was saved before there was AVX-512 has nothing of it.
        new Span<byte>(s->Xsave, VcpuState.XsaveSize)[Xsave.Length..].Clear();
        Xsave.CopyTo(new Span<byte>(s->Xsave, VcpuState.XsaveSize));
        (s->Rip, s->Rflags, s->Cpl, s->MpState) = (Rip, Rflags, Cpl, MpState);
        (s->InterruptShadow, s->NmiBlocked) = (InterruptShadow, NmiBlocked);
        (s->Gdtr, s->Idtr) = (Gdtr, Idtr);
        (s->TscOffset, s->TscAdjust, s->InstructionsRetired) = (TscOffset, TscAdjust, InstructionsRetired);
        s->Requests = NmiPending ? (uint)VcpuRequests.Nmi : 0;
        s->Pending = Pending is { } e
            ? new PendingEvent { Kind = e.Kind, Vector = e.Vector, HasErrorCode = e.HasErrorCode, ErrorCode = e.ErrorCode, InstructionLength = e.InstructionLength }
            : default;
    }

    private delegate void Visit(string name, ref ulong value);

    // One list for both directions, so that nothing can be saved and not restored.
    private static void VisitRegisters(VcpuState* s, Visit visit)
    {
        visit("CR0", ref s->Cr0);
        visit("CR2", ref s->Cr2);
        visit("CR3", ref s->Cr3);
        visit("CR4", ref s->Cr4);
        visit("EFER", ref s->Efer);
        visit("XCR0", ref s->Xcr0);
        visit("DR0", ref s->Dr0);
        visit("DR1", ref s->Dr1);
        visit("DR2", ref s->Dr2);
        visit("DR3", ref s->Dr3);
        visit("DR6", ref s->Dr6);
        visit("DR7", ref s->Dr7);
        visit("STAR", ref s->Star);
        visit("LSTAR", ref s->Lstar);
        visit("CSTAR", ref s->Cstar);
        visit("SFMASK", ref s->Sfmask);
        visit("KERNEL_GS_BASE", ref s->KernelGsBase);
        visit("SYSENTER_CS", ref s->SysenterCs);
        visit("SYSENTER_ESP", ref s->SysenterEsp);
        visit("SYSENTER_EIP", ref s->SysenterEip);
        visit("TSC_AUX", ref s->TscAux);
        visit("PAT", ref s->Pat);
        visit("MISC_ENABLE", ref s->MiscEnable);
        visit("SPEC_CTRL", ref s->SpecCtrl);
        visit("XSS", ref s->Xss);
    }
}

/// <summary>A <see cref="PendingEvent"/> as it is saved.</summary>
public sealed record SavedEvent(EventKind Kind, byte Vector, bool HasErrorCode, uint ErrorCode, byte InstructionLength);
