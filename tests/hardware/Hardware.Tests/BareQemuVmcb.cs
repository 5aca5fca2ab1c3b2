using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// A guest state as the virtual machine control block of AMD's SVM (APM Vol. 2 appendix B), and back. Intercepted is what ends a test's guest, and WBINVD and XSETBV, which KVM intercepts too. Behind it is what else
/// <see cref="BareQemuFirmware"/> needs in memory.
/// </summary>
internal static unsafe class BareQemuVmcb
{
    /// <summary>Behind the guest's memory: this block, VMRUN's save area for the host, page tables of two levels that map 4 GiB one to one, the XSAVE area and places for RDX, RCX and XCR0.</summary>
    public const uint Address = 0x80_0000, HostSave = Address + 0x1000, PageTables = Address + 0x2000, Xsave = Address + 0x4000, SavedRdx = Xsave + 0x800, SavedXcr0 = SavedRdx + 16;

    /// <summary>Bytes in all.</summary>
    public const int Size = 0x5000;

    private const int ExceptionIntercepts = 0x08, MiscIntercepts = 0x0C, SvmIntercepts = 0x10, Asid = 0x58, ExitCode = 0x70, EventInjection = 0xA8, Save = 0x400;
    private const uint InterceptHlt = 1u << 24, InterceptShutdown = 1u << 31, InterceptVmrun = 1, InterceptWbinvd = 1 << 9, InterceptXsetbv = 1 << 13;
    private const ulong ExitHlt = 0x78, ExitShutdown = 0x7F, ExitDebug = 0x41, Svme = 1 << 12, EventValid = 1ul << 31, EventHasError = 1 << 11, EventException = 3 << 8;

    private const uint Busy = 2;

    /// <summary>x87, SSE, AVX.</summary>
    public const uint AllComponents = 7;

    private const int Cpl = Save + 0xCB, EferAt = Save + 0xD0, Cr4At = Save + 0x148, Cr3At = Save + 0x150, Cr0At = Save + 0x158, Dr7At = Save + 0x160, Dr6At = Save + 0x168, RflagsAt = Save + 0x170,
        RipAt = Save + 0x178, RspAt = Save + 0x1D8, RaxAt = Save + 0x1F8, StarAt = Save + 0x200, LstarAt = Save + 0x208, CstarAt = Save + 0x210, SfmaskAt = Save + 0x218, KernelGsAt = Save + 0x220,
        SysenterCsAt = Save + 0x228, SysenterEspAt = Save + 0x230, SysenterEipAt = Save + 0x238, Cr2At = Save + 0x240, PatAt = Save + 0x268;

    /// <summary>A pending exception becomes an injected event.</summary>
    /// <param name="s">The guest's state.</param>
    /// <param name="step">End with the trap behind the first instruction.</param>
    public static byte[] Build(VcpuState* s, bool step)
    {
        var block = new byte[Size];
        Put(block, MiscIntercepts, InterceptHlt | InterceptShutdown | (ulong)(InterceptVmrun | InterceptWbinvd | InterceptXsetbv) << 32);
        Put(block, Asid, 1);
        ulong trap = 0;
        if (step)
        {
            BitConverter.TryWriteBytes(block.AsSpan(ExceptionIntercepts), 1u << Vector.DB);
            trap = Rflags.TF;
        }

        if (s->Pending.IsPending)
            Put(block, EventInjection, EventValid | EventException | s->Pending.Vector | (s->Pending.HasErrorCode ? EventHasError | (ulong)s->Pending.ErrorCode << 32 : 0));
        SegmentRegister[] segments = [s->ES, s->CS, s->SS, s->DS, s->FS, s->GS, new(0, s->Gdtr.Base, s->Gdtr.Limit, 0), s->LDTR, new(0, s->Idtr.Base, s->Idtr.Limit, 0), s->TR];
        for (int i = 0; i < segments.Length; i++)
        {
            SegmentRegister r = segments[i];
            uint attributes = (r.Attributes & SegmentRegister.Unusable) != 0 ? 0 : (r.Attributes & 0xFF) | (r.Attributes >> 4 & 0xF00);
            Put(block, Save + 16 * i, r.Selector | (ulong)attributes << 16 | (ulong)r.Limit << 32);
            Put(block, Save + 16 * i + 8, r.Base);
        }

        Put(block, (int)(PageTables - Address), PageTables + 0x1000 | 7);
        for (int gib = 0; gib < 4; gib++)
            Put(block, (int)(PageTables - Address) + 0x1000 + 8 * gib, (ulong)gib << 30 | 0x87);
        new ReadOnlySpan<byte>(s->Xsave, VcpuState.AvxXsaveSize).CopyTo(block.AsSpan((int)(Xsave - Address)));
        Put(block, (int)(Xsave - Address) + 512, AllComponents);
        block[Cpl] = s->Cpl;
        foreach ((int at, ulong value) in ((int, ulong)[])
            [(EferAt, s->Efer | Svme), (Cr4At, s->Cr4), (Cr3At, s->Cr3), (Cr0At, s->Cr0), (Dr7At, s->Dr7), (Dr6At, s->Dr6), (RflagsAt, s->Rflags | trap), (RipAt, s->Rip), (RspAt, s->Gpr[(int)Gpr.Rsp]),
             (RaxAt, s->Gpr[(int)Gpr.Rax]), (StarAt, s->Star), (LstarAt, s->Lstar), (CstarAt, s->Cstar), (SfmaskAt, s->Sfmask), (KernelGsAt, s->KernelGsBase), (SysenterCsAt, s->SysenterCs),
             (SysenterEspAt, s->SysenterEsp), (SysenterEipAt, s->SysenterEip), (Cr2At, s->Cr2), (PatAt, s->Pat)])
            Put(block, at, value);
        return block;
    }

    /// <summary>What the guest left, but for the general registers other than RAX and RSP, and DR0 to DR3. Failed for an exit that is none of HLT, shutdown and the trap of a step.</summary>
    public static VcpuExit Take(byte[] block, VcpuState* s)
    {
        var segments = new SegmentRegister[10];
        for (int i = 0; i < segments.Length; i++)
        {
            ulong first = Get(block, Save + 16 * i);
            uint attributes = (uint)(first >> 16 & 0xFF) | (uint)(first >> 12 & 0xF000);
            segments[i] = new SegmentRegister((ushort)first, Get(block, Save + 16 * i + 8), (uint)(first >> 32), (attributes & SegmentRegister.P) != 0 ? attributes : attributes | SegmentRegister.Unusable);
        }

        (s->ES, s->CS, s->SS, s->DS, s->FS, s->GS, s->LDTR, s->TR) = (segments[0], segments[1], segments[2], segments[3], segments[4], segments[5], segments[7], segments[9]);
        // As KVM shows it: the processor keeps no busy flag for TR.
        s->TR.Attributes |= Busy;
        s->Gdtr = new DescriptorTable(segments[6].Base, (ushort)segments[6].Limit);
        s->Idtr = new DescriptorTable(segments[8].Base, (ushort)segments[8].Limit);
        s->Cpl = block[Cpl];
        (s->Efer, s->Cr4, s->Cr3, s->Cr0, s->Cr2) = (Get(block, EferAt) & ~Svme, Get(block, Cr4At), Get(block, Cr3At), Get(block, Cr0At), Get(block, Cr2At));
        (s->Dr7, s->Dr6, s->Rflags) = (Get(block, Dr7At), Get(block, Dr6At), Get(block, RflagsAt));
        (s->Gpr[(int)Gpr.Rsp], s->Gpr[(int)Gpr.Rax]) = (Get(block, RspAt), Get(block, RaxAt));
        (s->Star, s->Lstar, s->Cstar, s->Sfmask, s->KernelGsBase) = (Get(block, StarAt), Get(block, LstarAt), Get(block, CstarAt), Get(block, SfmaskAt), Get(block, KernelGsAt));
        (s->SysenterCs, s->SysenterEsp, s->SysenterEip, s->Pat) = (Get(block, SysenterCsAt), Get(block, SysenterEspAt), Get(block, SysenterEipAt), Get(block, PatAt));
        block.AsSpan((int)(Xsave - Address), VcpuState.AvxXsaveSize).CopyTo(new Span<byte>(s->Xsave, VcpuState.AvxXsaveSize));
        s->Xcr0 = Get(block, (int)(SavedXcr0 - Address));
        ulong code = Get(block, ExitCode);
        // The exit is before the instruction; KVM goes past it.
        s->Rip = Get(block, RipAt) + (code == ExitHlt ? 1u : 0);
        if (code == ExitDebug)
            s->Rflags &= ~Rflags.TF;
        return code switch { ExitHlt => VcpuExit.Halt, ExitShutdown => VcpuExit.Shutdown, ExitDebug => VcpuExit.SingleStep, _ => VcpuExit.Failed };
    }

    private static void Put(byte[] block, int at, ulong value) => BitConverter.TryWriteBytes(block.AsSpan(at), value);

    private static ulong Get(byte[] block, int at) => BitConverter.ToUInt64(block, at);
}
