using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Boot;

/// <summary>A processor as every vCPU of a Xen guest starts: 64-bit mode, paging on, ring 3, the VMM's flat segments.</summary>
internal static unsafe class VcpuStart
{
    public const ushort KernelCode = 0xE033, KernelData = 0xE02B, Code32 = 0xE023;

    public static SegmentRegister FlatCode { get; } = SegmentRegister.FromDescriptor(KernelCode, 0x00AF_FB00_0000_FFFF);

    public static SegmentRegister FlatData { get; } = SegmentRegister.FromDescriptor(KernelData, 0x00CF_F300_0000_FFFF);

    public static SegmentRegister Null(ushort selector) => new(selector, 0, 0, SegmentRegister.Unusable | 3u << 5);

    public static void Prepare(VcpuState* s, int vcpu, ulong root)
    {
        for (int i = 0; i < 16; i++)
            s->Gpr[i] = 0;
        s->Rflags = Rflags.Fixed1 | Rflags.IF;
        s->Cpl = 3;
        s->GuestKernel = 1;
        s->Cr0 = Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.AM | Cr0.PG;
        s->Cr3 = root << 12;
        s->Cr4 = Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT;
        s->Xcr0 = Xcr0.X87;
        s->Efer = Efer.SCE | Efer.LME | Efer.LMA | Efer.NXE;
        s->CS = FlatCode;
        s->SS = FlatData;
        s->DS = s->ES = s->FS = s->GS = Null(0);
        s->KernelGsBase = 0;
        s->TR = new SegmentRegister(0, 0, 0, SegmentRegister.Unusable | SystemType.TssBusy);
        s->LDTR = new SegmentRegister(0, 0, 0, SegmentRegister.Unusable | SystemType.Ldt);
        s->Gdtr = new DescriptorTable(XenArea.GlobalTable(vcpu), 0xFFFF);
        s->Idtr = new DescriptorTable(0, 0);
        s->TscOffset = 0;
        s->TscAux = 0;
        s->MpState = MpState.Runnable;
    }
}
