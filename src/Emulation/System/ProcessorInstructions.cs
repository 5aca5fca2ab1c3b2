using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

// CPUID, time stamps, HLT, caches, hypercalls.
internal static unsafe partial class SystemHandlers
{
    private static void RegisterProcessor(HandlerTableBuilder b)
    {
        b.Register(Code.Cpuid, &Cpuid);
        b.Register(Code.Rdtsc, &Rdtsc);
        b.Register(Code.Rdtscp, &Rdtscp);
        b.Register(&Rdpid, Code.Rdpid_r32, Code.Rdpid_r64);
        b.Register(Code.Rdpmc, &Rdpmc);
        b.Register(Code.Hlt, &Hlt);
        b.Register(&CacheFlush, Code.Invd, Code.Wbinvd, Code.Wbnoinvd);
        b.Register(&Hypercall, Code.Vmcall, Code.Vmmcall);
        // No monitor, no system management mode: CPUID does not offer them.
        b.Register(&UndefinedOpcode, Code.Rsm, Code.Monitorw, Code.Monitord, Code.Monitorq, Code.Mwait, Code.Ud2);
    }

    private static bool Cpuid(SoftVcpu cpu, Op* op)
    {
        ulong* gpr = cpu.S->Gpr;
        CpuidResult r = cpu.Cpuid((uint)gpr[(int)Gpr.Rax], (uint)gpr[(int)Gpr.Rcx]);
        gpr[(int)Gpr.Rax] = r.Eax;
        gpr[(int)Gpr.Rbx] = r.Ebx;
        gpr[(int)Gpr.Rcx] = r.Ecx;
        gpr[(int)Gpr.Rdx] = r.Edx;
        return true;
    }

    private static bool TimeStampAllowed(SoftVcpu cpu) => cpu.S->Cpl == 0 || (cpu.S->Cr4 & Cr4.TSD) == 0 || cpu.Raise(Vector.GP, 0);

    private static bool Rdtsc(SoftVcpu cpu, Op* op)
    {
        if (!TimeStampAllowed(cpu))
            return false;
        WritePair(cpu, cpu.GuestTsc);
        return true;
    }

    private static bool Rdtscp(SoftVcpu cpu, Op* op)
    {
        if (!Rdtsc(cpu, op))
            return false;
        cpu.S->Gpr[(int)Gpr.Rcx] = (uint)cpu.S->TscAux;
        return true;
    }

    private static bool Rdpid(SoftVcpu cpu, Op* op)
    {
        cpu.S->Gpr[op->Rm] = (uint)cpu.S->TscAux;
        return true;
    }

    /// <summary>The model has no performance counters, so that every counter number is invalid.</summary>
    private static bool Rdpmc(SoftVcpu cpu, Op* op) => cpu.Raise(Vector.GP, 0);

    private static bool Hlt(SoftVcpu cpu, Op* op)
    {
        if (!NeedsRing0(cpu))
            return false;
        cpu.S->MpState = MpState.Halted;
        cpu.LeaveBlock();
        return true;
    }

    /// <summary>Guest memory has no cache of its own: nothing to write back.</summary>
    private static bool CacheFlush(SoftVcpu cpu, Op* op) => NeedsRing0(cpu);

    private static bool Hypercall(SoftVcpu cpu, Op* op)
    {
        RingMark from = cpu.MarkRing();
        ulong number = cpu.S->Gpr[(int)Gpr.Rax], first = cpu.S->Gpr[(int)Gpr.Rbx], second = cpu.S->Gpr[(int)Gpr.Rcx];
        cpu.SynchronizeState();
        if (!cpu.Host.Hypercall(cpu.S))
            return cpu.Raise(Vector.UD);
        cpu.SetFlags(cpu.S->Rflags);
        cpu.ModeChanged();
        cpu.RecordHypercall(from.Rip, (int)Math.Min(number, ushort.MaxValue), first, second);
        return true;
    }
}
