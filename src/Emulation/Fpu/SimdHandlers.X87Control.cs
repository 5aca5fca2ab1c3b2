using System.Runtime.CompilerServices;
using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// x87 control instructions (SDM Vol. 1 §8.1, §8.3.13).
internal static unsafe partial class SimdHandlers
{
    private static void RegisterX87Control(HandlerTableBuilder b)
    {
        b.Register(Code.Wait, &Fwait);
        b.Register(Code.Fninit, &Fninit);
        b.Register(Code.Fnclex, &Fnclex);
        b.Register(Code.Fldcw_m2byte, &Fldcw);
        b.Register(Code.Fnstcw_m2byte, &Fnstcw);
        b.Register(Code.Fnstsw_m2byte, &Fnstsw);
        b.Register(Code.Fnstsw_AX, &FnstswAx);
        b.Register(&FpuNop, Code.Fneni, Code.Fndisi, Code.Fnsetpm);
        b.Register(&Fnstenv, Code.Fnstenv_m14byte, Code.Fnstenv_m28byte);
        b.Register(&Fldenv, Code.Fldenv_m14byte, Code.Fldenv_m28byte);
        b.Register(&Fnsave, Code.Fnsave_m94byte, Code.Fnsave_m108byte);
        b.Register(&Frstor, Code.Frstor_m94byte, Code.Frstor_m108byte);
    }

    private static bool Fwait(SoftVcpu cpu, Op* op)
    {
        const ulong Both = Cr0.MP | Cr0.TS;
        if ((cpu.S->Cr0 & Both) == Both)
            return cpu.Raise(X86.Vector.NM);
        return (VectorFile.FswOf(cpu.S) & VectorFile.ErrorSummary) == 0 || cpu.Raise(X86.Vector.MF);
    }

    private static bool FpuNop(SoftVcpu cpu, Op* op) => cpu.X87Available(waits: false);

    private static bool Fninit(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: false))
            return false;
        InitializeX87(cpu.S);
        return true;
    }

    private static void InitializeX87(VcpuState* s)
    {
        VectorFile.SetTop(s, 0);
        VectorFile.FcwOf(s) = VectorFile.FcwDefault;
        VectorFile.FswOf(s) = 0;
        VectorFile.FtwOf(s) = 0;
        *(ushort*)(s->Xsave + VectorFile.Fop) = 0;
        *(ulong*)(s->Xsave + VectorFile.Fip) = 0;
        *(ulong*)(s->Xsave + VectorFile.Fdp) = 0;
    }

    private static bool Fnclex(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: false))
            return false;
        VectorFile.FswOf(cpu.S) &= 0x7F00;
        return true;
    }

    private static bool Fldcw(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: true) || !cpu.Load(op->Seg, cpu.EffectiveAddress(op), out ushort fcw))
            return false;
        SetControlWord(cpu.S, fcw);
        return true;
    }

    // Bit 6 always reads as one, bits 7 and 13–15 as zero.
    private static void SetControlWord(VcpuState* s, ushort fcw)
    {
        VectorFile.FcwOf(s) = (ushort)(fcw & 0x1F3F | 0x40);
        VectorFile.UpdateErrorSummary(s);
    }

    private static bool Fnstcw(SoftVcpu cpu, Op* op) =>
        cpu.X87Available(waits: false) && cpu.Store(op->Seg, cpu.EffectiveAddress(op), VectorFile.FcwOf(cpu.S));

    private static bool Fnstsw(SoftVcpu cpu, Op* op) =>
        cpu.X87Available(waits: false) && cpu.Store(op->Seg, cpu.EffectiveAddress(op), VectorFile.FswOf(cpu.S));

    private static bool FnstswAx(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: false))
            return false;
        *(ushort*)cpu.S->Gpr = VectorFile.FswOf(cpu.S);
        return true;
    }

    private static bool Fnstenv(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: false))
            return false;
        byte* image = stackalloc byte[28];
        int size = WriteEnvironment(cpu.S, image, op->Code == Code.Fnstenv_m14byte);
        if (!cpu.StoreOperand(op->Seg, cpu.EffectiveAddress(op), image, size))
            return false;
        VectorFile.FcwOf(cpu.S) |= 0x3F;
        VectorFile.UpdateErrorSummary(cpu.S);
        return true;
    }

    private static bool Fldenv(SoftVcpu cpu, Op* op)
    {
        bool small = op->Code == Code.Fldenv_m14byte;
        byte* image = stackalloc byte[28];
        if (!cpu.X87Available(waits: true) || !cpu.LoadOperand(op->Seg, cpu.EffectiveAddress(op), image, small ? 14 : 28))
            return false;
        ReadEnvironment(cpu.S, image, small);
        return true;
    }

    private static bool Fnsave(SoftVcpu cpu, Op* op)
    {
        if (!cpu.X87Available(waits: false))
            return false;
        byte* image = stackalloc byte[108];
        int size = WriteEnvironment(cpu.S, image, op->Code == Code.Fnsave_m94byte);
        for (int i = 0; i < 8; i++, size += 10)
            Unsafe.CopyBlock(image + size, cpu.S->Xsave + VectorFile.St + 16 * i, 10);
        if (!cpu.StoreArea(op->Seg, cpu.EffectiveAddress(op), image, size))
            return false;
        InitializeX87(cpu.S);
        return true;
    }

    private static bool Frstor(SoftVcpu cpu, Op* op)
    {
        bool small = op->Code == Code.Frstor_m94byte;
        int size = small ? 14 : 28;
        byte* image = stackalloc byte[108];
        if (!cpu.X87Available(waits: true) || !cpu.LoadArea(op->Seg, cpu.EffectiveAddress(op), image, size + 80))
            return false;
        ReadEnvironment(cpu.S, image, small);
        for (int i = 0; i < 8; i++)
        {
            byte* slot = cpu.S->Xsave + VectorFile.St + 16 * i;
            Unsafe.CopyBlock(slot, image + size + 10 * i, 10);
            Unsafe.InitBlock(slot + 10, 0, 6);
        }

        return true;
    }

    /// <summary>The environment in the format of operand size and mode (SDM Vol. 1 figures 8-9 to 8-12); returns its size.</summary>
    private static int WriteEnvironment(VcpuState* s, byte* image, bool small)
    {
        bool real = !s->IsProtected || s->IsVirtual8086;
        uint fip = *(uint*)(s->Xsave + VectorFile.Fip), fdp = *(uint*)(s->Xsave + VectorFile.Fdp);
        uint fop = *(ushort*)(s->Xsave + VectorFile.Fop) & 0x7FFu;
        uint* words = stackalloc uint[7];
        words[0] = VectorFile.FcwOf(s);
        words[1] = VectorFile.FswOf(s);
        words[2] = FullTags(s);
        words[3] = fip;
        words[4] = real ? (small ? fip >> 16 << 12 & 0xF000 : fip >> 16 << 12) | fop : small ? 0 : fop << 16;
        words[5] = fdp;
        words[6] = real ? (small ? fdp >> 16 << 12 & 0xF000 : fdp >> 16 << 12) : 0;
        if (small)
        {
            for (int i = 0; i < 7; i++)
                ((ushort*)image)[i] = (ushort)words[i];
            return 14;
        }

        for (int i = 0; i < 7; i++)
        {
            // Reserved upper halves read as ones on every processor since the 387; a real-mode pointer's halves are both in use.
            bool half = i is 0 or 1 or 2 || i == 6 && !real || real && i is 3 or 5;
            ((uint*)image)[i] = half ? words[i] | 0xFFFF_0000 : words[i];
        }

        return 28;
    }

    private static void ReadEnvironment(VcpuState* s, byte* image, bool small)
    {
        bool real = !s->IsProtected || s->IsVirtual8086;
        uint* w = stackalloc uint[7];
        for (int i = 0; i < 7; i++)
            w[i] = small ? ((ushort*)image)[i] : ((uint*)image)[i];
        int top = (int)(w[1] >> 11) & 7;
        VectorFile.SetTop(s, top);
        VectorFile.FswOf(s) = (ushort)w[1];
        byte tags = 0;
        for (int i = 0; i < 8; i++)
            tags |= (byte)((w[2] >> (2 * i) & 3) != 3 ? 1 << i : 0);
        VectorFile.FtwOf(s) = tags;
        SetControlWord(s, (ushort)w[0]);
        uint fop = real ? w[4] & 0x7FF : small ? 0 : w[4] >> 16 & 0x7FF;
        *(ushort*)(s->Xsave + VectorFile.Fop) = (ushort)fop;
        *(ulong*)(s->Xsave + VectorFile.Fip) = real ? w[3] & 0xFFFF | w[4] >> 12 << 16 : w[3];
        *(ulong*)(s->Xsave + VectorFile.Fdp) = real ? w[5] & 0xFFFF | w[6] >> 12 << 16 : w[5];
    }

    /// <summary>The full tag word from the abridged one and the values (SDM Vol. 2A, FXSAVE, table 3-44).</summary>
    private static uint FullTags(VcpuState* s)
    {
        uint tags = 0;
        int top = VectorFile.Top(s);
        for (int physical = 0; physical < 8; physical++)
        {
            byte* slot = s->Xsave + VectorFile.St + 16 * (physical - top & 7);
            ulong mantissa = *(ulong*)slot;
            int exponent = *(ushort*)(slot + 8) & 0x7FFF;
            uint tag = (VectorFile.FtwOf(s) >> physical & 1) == 0 ? 3u
                : exponent == 0 && mantissa == 0 ? 1u
                : exponent is 0 or 0x7FFF || (mantissa >> 63) == 0 ? 2u : 0u;
            tags |= tag << (2 * physical);
        }

        return tags;
    }
}
