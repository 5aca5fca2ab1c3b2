using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// XADD, CMPXCHG and its wide forms.
internal static unsafe partial class IntegerHandlers
{
    private readonly struct ExchangeAdd : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            cpu.Exchanged = old;
            return Add.Compute(cpu.N, SignExtend(old, size), SignExtend(Get(cpu, op->RegOff, size), size), size);
        }
    }

    private static bool Xadd(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (op->IsMemory)
        {
            if (!Change<ExchangeAdd>(cpu, op, size, op->Has(OpFlags.Lock)))
                return false;
            Put(cpu, op->RegOff, size, cpu.Exchanged);
            return true;
        }

        // Both registers may be the same one: the sum wins.
        ulong old = Get(cpu, op->RmOff, size);
        ulong sum = ExchangeAdd.Apply(cpu, op, size, old);
        Put(cpu, op->RegOff, size, old);
        Put(cpu, op->RmOff, size, sum);
        return true;
    }

    private readonly struct CompareExchange : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            cpu.Exchanged = old;
            ulong accumulator = Get(cpu, 0, size);
            Sub.Compute(cpu.N, SignExtend(accumulator, size), SignExtend(old, size), size);
            // The destination is written either way (SDM Vol. 2A, CMPXCHG).
            return accumulator == old ? Get(cpu, op->RegOff, size) : old;
        }
    }

    private static bool Cmpxchg(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        if (!op->IsMemory)
        {
            ulong old = Get(cpu, op->RmOff, size);
            ulong next = CompareExchange.Apply(cpu, op, size, old);
            if (cpu.N->ZF())
                Put(cpu, op->RmOff, size, next);
            else
                Put(cpu, 0, size, old);
            return true;
        }

        if (!Change<CompareExchange>(cpu, op, size, op->Has(OpFlags.Lock)))
            return false;
        if (!cpu.N->ZF())
            Put(cpu, 0, size, cpu.Exchanged);
        return true;
    }

    private readonly struct CompareExchange8 : IChange
    {
        public static ulong Apply(SoftVcpu cpu, Op* op, int size, ulong old)
        {
            cpu.Exchanged = old;
            ulong* g = cpu.S->Gpr;
            ulong expected = (uint)g[(int)Gpr.Rax] | g[(int)Gpr.Rdx] << 32;
            return expected == old ? (uint)g[(int)Gpr.Rbx] | g[(int)Gpr.Rcx] << 32 : old;
        }
    }

    private static bool Cmpxchg8b(SoftVcpu cpu, Op* op)
    {
        if (!Change<CompareExchange8>(cpu, op, 8, op->Has(OpFlags.Lock)))
            return false;
        ulong* g = cpu.S->Gpr;
        bool equal = ((uint)g[(int)Gpr.Rax] | g[(int)Gpr.Rdx] << 32) == cpu.Exchanged;
        if (!equal)
        {
            g[(int)Gpr.Rax] = (uint)cpu.Exchanged;
            g[(int)Gpr.Rdx] = cpu.Exchanged >> 32;
        }

        SetZero(cpu, equal);
        return true;
    }

    private static void SetZero(SoftVcpu cpu, bool zero)
    {
        ulong f = cpu.N->StatusFlags();
        cpu.N->SetStatusFlags(zero ? f | Rflags.ZF : f & ~Rflags.ZF);
    }

    private static bool Cmpxchg16b(SoftVcpu cpu, Op* op)
    {
        ulong offset = cpu.EffectiveAddress(op);
        if (!cpu.Linear(op->Seg, offset, 16, write: true, out ulong linear))
            return false;
        if ((linear & 15) != 0)
            return cpu.Raise(Vector.GP, 0);
        byte* p = cpu.WritePointer(linear, op->Seg, 16, out bool ok);
        if (!ok)
            return false;
        ulong* g = cpu.S->Gpr;
        ulong* old = stackalloc ulong[2] { g[(int)Gpr.Rax], g[(int)Gpr.Rdx] };
        bool equal;
        if (p != null && Atomic128.IsSupported)
        {
            equal = Atomic128.Instance.CompareExchange((ulong*)p, old, g[(int)Gpr.Rbx], g[(int)Gpr.Rcx]);
        }
        else
        {
            cpu.BeginExclusive();
            ok = Cmpxchg16bAlone(cpu, op->Seg, linear, old, out equal);
            cpu.EndExclusive();
            if (!ok)
                return false;
        }

        if (!equal)
        {
            g[(int)Gpr.Rax] = old[0];
            g[(int)Gpr.Rdx] = old[1];
        }

        SetZero(cpu, equal);
        return true;
    }

    private static bool Cmpxchg16bAlone(SoftVcpu cpu, SegmentName seg, ulong linear, ulong* old, out bool equal)
    {
        ulong* now = stackalloc ulong[2];
        equal = false;
        if (!cpu.ReadAt(linear, seg, now, 16))
            return false;
        equal = now[0] == old[0] && now[1] == old[1];
        (old[0], old[1]) = (now[0], now[1]);
        if (equal)
            (now[0], now[1]) = (cpu.S->Gpr[(int)Gpr.Rbx], cpu.S->Gpr[(int)Gpr.Rcx]);
        return cpu.WriteAt(linear, seg, now, 16);
    }

    private static void RegisterAtomics(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.Xadd, &Xadd);
        b.Register(Mnemonic.Cmpxchg, &Cmpxchg);
        b.Register(Mnemonic.Cmpxchg8b, &Cmpxchg8b);
        b.Register(Mnemonic.Cmpxchg16b, &Cmpxchg16b);
    }
}
