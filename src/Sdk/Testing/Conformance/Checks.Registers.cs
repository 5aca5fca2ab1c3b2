using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Registers, flags, operating modes, state in and out.
public static unsafe partial class StrategyConformance
{
    private static IEnumerable<ConformanceCheck> RegisterChecks() =>
    [
        Check(ConformanceArea.Registers, "every general register is loaded by the guest and seen in the state", AllGprsOut),
        Check(ConformanceArea.Registers, "every general register set in the state is seen by the guest", AllGprsIn),
        Check(ConformanceArea.Registers, "status flags of an addition", AdditionFlags),
        Check(ConformanceArea.Registers, "status flags set in the state steer a jump", FlagsIn),
        Check(ConformanceArea.Registers, "XMM registers go in and out through the XSAVE area", XmmRoundTrip),
        Check(ConformanceArea.Registers, "FS and GS bases address memory", SegmentBases),
        Check(ConformanceArea.State, "the whole state survives commit and synchronize", StateRoundTrip),
        Check(ConformanceArea.State, "reset brings the processor to F000:FFF0 in real mode", ResetVector),
        Check(ConformanceArea.Modes, "real mode: segments are selector times 16", RealMode),
        Check(ConformanceArea.Modes, "compatibility mode: 32-bit code under long mode", CompatibilityMode),
        Check(ConformanceArea.Modes, "protected mode without paging", ProtectedMode),
        Check(ConformanceArea.Modes, "from real mode to long mode, as a kernel does it", RealToLong),
    ];

    private static void AllGprsOut(ConformanceMachine m)
    {
        m.EnterLongMode(c =>
        {
            for (int r = 0; r < 16; r++)
                c.Mov((Gpr)r, Pattern(r));
            c.Hlt();
        });
        m.RunToHalt();
        for (int r = 0; r < 16; r++)
            Equal(Pattern(r), m[(Gpr)r], $"{(Gpr)r}");
    }

    private static ulong Pattern(int r) => 0x1122_3344_5566_7700ul * (ulong)(r + 1) + (ulong)r;

    private static void AllGprsIn(ConformanceMachine m)
    {
        m.EnterLongMode(c =>
        {
            for (int r = 0; r < 16; r++)
                c.Store(DataAddress + 8 * (uint)r, (Gpr)r);
            c.Hlt();
        });
        for (int r = 0; r < 16; r++)
            m.State->Gpr[r] = Pattern(r);
        m.Vcpu.CommitState();
        m.RunToHalt();
        for (int r = 0; r < 16; r++)
            Equal(Pattern(r), m.Read64(DataAddress + 8 * (ulong)r), $"{(Gpr)r} as the guest saw it");
    }

    private static void AdditionFlags(ConformanceMachine m)
    {
        // mov al, 0xFF; add al, 1
        m.EnterLongMode(c => c.Bytes(0xB0, 0xFF, 0x04, 0x01).Hlt());
        m.RunToHalt();
        Equal(Rflags.CF | Rflags.ZF | Rflags.AF | Rflags.PF, m.State->Rflags & Rflags.Status, "flags after 0xFF + 1");
    }

    private static void FlagsIn(ConformanceMachine m)
    {
        // jc over "mov eax, 1"
        m.EnterLongMode(c => c.Jcc(2, "taken").Bytes(0xB8, 1, 0, 0, 0).Label("taken").Hlt());
        m.State->Rflags |= Rflags.CF;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0ul, m[Gpr.Rax], "RAX after a jump on carry");
    }

    private static void XmmRoundTrip(ConformanceMachine m)
    {
        // movups [data], xmm3; movups xmm5, [data+16]
        m.EnterLongMode(c => c.Bytes(0x0F, 0x11, 0x1C, 0x25).Imm32(DataAddress).Bytes(0x0F, 0x10, 0x2C, 0x25).Imm32(DataAddress + 16).Hlt());
        m.Write64(DataAddress + 16, 0xDEAD_BEEF_0123_4567);
        m.Write64(DataAddress + 24, 0x89AB_CDEF_FEED_FACE);
        *(ulong*)(m.State->Xsave + 160 + 3 * 16) = 0x0011_2233_4455_6677;
        *(ulong*)(m.State->Xsave + 168 + 3 * 16) = 0x8899_AABB_CCDD_EEFF;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0x0011_2233_4455_6677ul, m.Read64(DataAddress), "low half of XMM3 as the guest saw it");
        Equal(0x8899_AABB_CCDD_EEFFul, m.Read64(DataAddress + 8), "high half of XMM3 as the guest saw it");
        Equal(0xDEAD_BEEF_0123_4567ul, *(ulong*)(m.State->Xsave + 160 + 5 * 16), "low half of XMM5 in the state");
        Equal(0x89AB_CDEF_FEED_FACEul, *(ulong*)(m.State->Xsave + 168 + 5 * 16), "high half of XMM5 in the state");
    }

    private static void SegmentBases(ConformanceMachine m)
    {
        // mov rax, fs:[8]; mov rbx, gs:[8]
        m.EnterLongMode(c => c.Bytes(0x64, 0x48, 0x8B, 0x04, 0x25, 8, 0, 0, 0, 0x65, 0x48, 0x8B, 0x1C, 0x25, 8, 0, 0, 0).Hlt());
        m.Write64(DataAddress + 8, 111);
        m.Write64(DataAddress + 0x108, 222);
        m.State->FS.Base = DataAddress;
        m.State->GS.Base = DataAddress + 0x100;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(111ul, m[Gpr.Rax], "FS:[8]");
        Equal(222ul, m[Gpr.Rbx], "GS:[8]");
    }

    private static void StateRoundTrip(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Nop().Hlt());
        VcpuState* s = m.State;
        s->Lstar = 0xFFFF_8000_1234_5678;
        s->Star = 0x0023_0010_0000_0000;
        s->Sfmask = 0x4_7700;
        s->KernelGsBase = 0xFFFF_9000_0000_1000;
        s->FS.Base = 0x7FFF_0000_1000;
        s->SysenterCs = 0x10;
        s->SysenterEip = 0x1234;
        s->TscAux = 7;
        s->Dr0 = 0x1000;
        s->Cr2 = 0xABCD_E000;
        s->Rflags |= Rflags.CF | Rflags.OF | Rflags.DF | Rflags.ID;
        *(uint*)(s->Xsave + 24) = 0x1FA0;
        *(ushort*)s->Xsave = 0x027F;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0xFFFF_8000_1234_5678ul, s->Lstar, "LSTAR");
        Equal(0x0023_0010_0000_0000ul, s->Star, "STAR");
        Equal(0x4_7700ul, s->Sfmask, "SFMASK");
        Equal(0xFFFF_9000_0000_1000ul, s->KernelGsBase, "KERNEL_GS_BASE");
        Equal(0x7FFF_0000_1000ul, s->FS.Base, "FS base");
        Equal(0x10ul, s->SysenterCs, "SYSENTER_CS");
        Equal(0x1234ul, s->SysenterEip, "SYSENTER_EIP");
        Equal(7ul, s->TscAux, "TSC_AUX");
        Equal(0x1000ul, s->Dr0, "DR0");
        Equal(0xABCD_E000ul, s->Cr2, "CR2");
        Equal(Rflags.CF | Rflags.OF | Rflags.DF | Rflags.ID, s->Rflags & (Rflags.Status | Rflags.DF | Rflags.ID), "RFLAGS");
        Equal(0x1FA0u, *(uint*)(s->Xsave + 24), "MXCSR");
        Equal((ushort)0x027F, *(ushort*)s->Xsave, "FCW");
        Equal(Code64, s->CS.Selector, "CS");
        Equal(0x8Bu, s->TR.Attributes, "TR attributes");
        Equal((ulong)CodeAddress + 2, s->Rip, "RIP behind HLT");
    }

    private static void ResetVector(ConformanceMachine m)
    {
        m.Memory.Add(new Memory.MemorySlot("rom", 0xFFFF_0000, new Memory.HeapMemoryRegion(0x10000), readOnly: false));
        // mov ax, cs; hlt
        m.Write(0xFFFF_FFF0, [0x8C, 0xC8, 0xF4]);
        m.EnterLongMode(c => c.Hlt());
        m.RunToHalt();
        VcpuState.Reset(m.State, init: false, bootstrap: true);
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0xF000ul, m[Gpr.Rax] & 0xFFFF, "CS after reset");
        Equal(0xFFF3ul, m.State->Rip, "RIP behind the HLT at the reset vector");
        Equal(0ul, m.State->Cr0 & (Cr0.PE | Cr0.PG), "CR0.PE and PG after reset");
    }

    private static void RealMode(ConformanceMachine m)
    {
        // mov ax, 0x1234; mov ds, ax; mov byte [0x10], 0x5A; hlt
        m.EnterRealMode(0xB8, 0x34, 0x12, 0x8E, 0xD8, 0xC6, 0x06, 0x10, 0x00, 0x5A, 0xF4);
        m.RunToHalt();
        Equal(0x5Aul, m.Read64(0x12350) & 0xFF, "the byte at 1234:0010");
        Equal((ushort)0x1234, m.State->DS.Selector, "DS");
        Equal(0x12340ul, m.State->DS.Base, "DS base");
    }

    private static void CompatibilityMode(ConformanceMachine m)
    {
        // inc eax as 0x40 exists only outside 64-bit mode; there it is a REX prefix.
        m.EnterLongMode(c => c.Bytes(0x40, 0x90).Hlt());
        m.State->CS = new SegmentRegister(Code32, 0, 0xFFFF_FFFF, 0xC09B);
        m.State->Gpr[0] = 0xFFFF_FFFF;
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0ul, m[Gpr.Rax], "EAX wraps to zero and takes no upper half");
        Equal(CpuMode.Compatibility, m.State->Mode, "mode");
    }

    private static void ProtectedMode(ConformanceMachine m)
    {
        // mov dword [data], 0x12345678; hlt
        m.EnterLongMode(c => c.Bytes(0xC7, 0x05).Imm32(DataAddress).Imm32(0x1234_5678).Hlt());
        m.State->Cr0 = Cr0.PE | Cr0.ET | Cr0.NE;
        m.State->Cr4 = 0;
        m.State->Efer = 0;
        m.State->CS = new SegmentRegister(Code32, 0, 0xFFFF_FFFF, 0xC09B);
        m.Vcpu.CommitState();
        m.RunToHalt();
        Equal(0x1234_5678ul, m.Read64(DataAddress), "what 32-bit code stored");
        Equal(CpuMode.Protected32, m.State->Mode, "mode");
    }

    private static void RealToLong(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rdi, 0x1_0000_0001).Hlt());
        // lgdt [0x7B00]; cr4 |= PAE; cr3; EFER.LME; cr0 |= PG|PE; jmp far 08:CodeAddress
        m.Write(0x7B00, [0x7F, 0, .. BitConverter.GetBytes(GdtAddress)]);
        m.EnterRealMode(
            0x0F, 0x01, 0x16, 0x00, 0x7B,
            0x66, 0xB8, 0x20, 0, 0, 0, 0x0F, 0x22, 0xE0,
            0x66, 0xB8, 0x00, 0x80, 0, 0, 0x0F, 0x22, 0xD8,
            0x66, 0xB9, 0x80, 0, 0, 0xC0, 0x66, 0xB8, 0, 1, 0, 0, 0x66, 0x31, 0xD2, 0x0F, 0x30,
            0x66, 0xB8, 1, 0, 0, 0x80, 0x0F, 0x22, 0xC0,
            0x66, 0xEA, 0, 0, 1, 0, 8, 0);
        m.RunToHalt();
        Equal(0x1_0000_0001ul, m[Gpr.Rdi], "RDI");
        Equal(CpuMode.Long, m.State->Mode, "mode");
        True((m.State->Efer & Efer.LMA) != 0, "EFER.LMA is not set after paging was turned on with EFER.LME");
    }
}
