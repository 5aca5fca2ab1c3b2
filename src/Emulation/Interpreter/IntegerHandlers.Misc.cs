using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Flag bits, NOPs, fences, cache and spin hints, random numbers.
internal static unsafe partial class IntegerHandlers
{
    private static bool Nop(SoftVcpu cpu, Op* op) => true;

    private static bool Undefined(SoftVcpu cpu, Op* op) => cpu.Raise(Vector.UD);

    private static bool Clc(SoftVcpu cpu, Op* op)
    {
        SoftVcpu.SetCarry(cpu.N, 0);
        return true;
    }

    private static bool Stc(SoftVcpu cpu, Op* op)
    {
        SoftVcpu.SetCarry(cpu.N, 1);
        return true;
    }

    private static bool Cmc(SoftVcpu cpu, Op* op)
    {
        SoftVcpu.SetCarry(cpu.N, cpu.N->FlagCarry & 1 ^ 1);
        return true;
    }

    private static bool Cld(SoftVcpu cpu, Op* op)
    {
        cpu.S->Rflags &= ~Rflags.DF;
        return true;
    }

    private static bool Std(SoftVcpu cpu, Op* op)
    {
        cpu.S->Rflags |= Rflags.DF;
        return true;
    }

    private static bool Fence(SoftVcpu cpu, Op* op)
    {
        Interlocked.MemoryBarrier();
        return true;
    }

    /// <summary>SDM Vol. 2B, SERIALIZE. What other vCPUs wrote into this one's code is executed from here on, so that the rest of the block is looked at anew.</summary>
    private static bool Serialize(SoftVcpu cpu, Op* op)
    {
        Interlocked.MemoryBarrier();
        cpu.LeaveBlock();
        return true;
    }

    /// <summary>The line is checked like a byte read; the host's caches are coherent.</summary>
    private static bool FlushLine(SoftVcpu cpu, Op* op) => cpu.Load(op->Seg, cpu.EffectiveAddress(op), out byte _);

    /// <summary>A guest that spins waits for another vCPU, which may need our host processor.</summary>
    private static bool Pause(SoftVcpu cpu, Op* op)
    {
        cpu.SpinHint();
        return true;
    }

    private static bool Rdrand(SoftVcpu cpu, Op* op)
    {
        ulong v;
        cpu.Host.FillRandom(new Span<byte>(&v, sizeof(ulong)));
        Put(cpu, op->RmOff, op->OpSize, v);
        cpu.N->SetStatusFlags(Rflags.CF);
        return true;
    }

    private static void RegisterMisc(HandlerTableBuilder b)
    {
        b.Register(&Nop, Code.Nopw, Code.Nopd, Code.Nopq, Code.Endbr32, Code.Endbr64, Code.Rdsspd_r32, Code.Rdsspq_r64, Code.Cldemote_m8);
        foreach (Code code in Enum.GetValues<Code>())
        {
            string name = code.ToString();
            if (name.StartsWith("Nop_", StringComparison.Ordinal) || (name.StartsWith("Reservednop_", StringComparison.Ordinal) && !name.EndsWith("0F0D", StringComparison.Ordinal))
                || name.StartsWith("Prefetch", StringComparison.Ordinal))
                b.Register(code, &Nop);
            else if (name.StartsWith("Mfence", StringComparison.Ordinal) || name.StartsWith("Lfence", StringComparison.Ordinal)
                || name.StartsWith("Sfence", StringComparison.Ordinal))
                b.Register(code, &Fence);
        }

        b.Register(&Undefined, Code.Ud0, Code.Ud0_r16_rm16, Code.Ud0_r32_rm32, Code.Ud0_r64_rm64, Code.Ud1_r16_rm16, Code.Ud1_r32_rm32, Code.Ud1_r64_rm64, Code.Ud2);
        b.Register(Mnemonic.Clc, &Clc);
        b.Register(Mnemonic.Stc, &Stc);
        b.Register(Mnemonic.Cmc, &Cmc);
        b.Register(Mnemonic.Cld, &Cld);
        b.Register(Mnemonic.Std, &Std);
        b.Register(&FlushLine, Code.Clflush_m8, Code.Clflushopt_m8, Code.Clwb_m8);
        b.Register(Code.Pause, &Pause);
        b.Register(Code.Serialize, &Serialize);
        b.Register(Mnemonic.Rdrand, &Rdrand);
        b.Register(Mnemonic.Rdseed, &Rdrand);
    }
}
