using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// MOVS, STOS, LODS, CMPS, SCAS with REP. Registers are current after every step, so a fault or an interrupt leaves the instruction to be resumed.
internal static unsafe partial class IntegerHandlers
{
    /// <summary>Steps after which a repeated instruction that goes element by element looks for requests.</summary>
    private const int ElementsPerLook = 512;

    /// <summary>What the string instructions share: counts, index registers, direction.</summary>
    private ref struct StringOp
    {
        private readonly SoftVcpu _cpu;
        private readonly Op* _op;
        private bool _done;
        private int _steps;
        public readonly int Size;
        private readonly bool _repeats;
        private readonly bool _oneByOne;
        public readonly bool Backward;

        public StringOp(SoftVcpu cpu, Op* op)
        {
            _cpu = cpu;
            _op = op;
            Size = Math.Max((int)op->OpSize, 1);
            _repeats = op->Has(OpFlags.Rep) || op->Has(OpFlags.Repne);
            Backward = (cpu.S->Rflags & Rflags.DF) != 0;
            // Single-step and data breakpoints trap after each iteration (SDM Vol. 3B §17.3.1.4).
            _oneByOne = (cpu.S->Rflags & Rflags.TF) != 0 || cpu.DebugActive;
        }

        private readonly ulong Mask => _op->AddrMask;

        public readonly ulong Si => _cpu.S->Gpr[(int)Gpr.Rsi] & Mask;

        public readonly ulong Di => _cpu.S->Gpr[(int)Gpr.Rdi] & Mask;

        private readonly ulong Count => _cpu.S->Gpr[(int)Gpr.Rcx] & Mask;

        /// <summary>Something is left to do.</summary>
        public readonly bool More => _repeats ? Count != 0 && !_done : !_done;

        /// <summary>How many elements lie in the rest of the page of an operand, in the direction that it goes, at least one; one without REP.</summary>
        public readonly ulong Batch(ulong offset, SegmentName seg)
        {
            if (!_repeats || _oneByOne)
                return 1;
            ulong linear = offset + (_cpu.N->LinearMask == ulong.MaxValue && seg < SegmentName.FS ? 0 : (&_cpu.S->ES + (int)seg)->Base);
            ulong size = (ulong)Size, inPage = linear & 0xFFF;
            ulong room = !Backward ? (0x1000 - inPage) / size : inPage + size <= 0x1000 ? inPage / size + 1 : 1;
            // The offset must not wrap within a batch.
            ulong wrap = Backward ? offset / size + 1 : (Mask - offset) / size;
            return Math.Max(1, Math.Min(Math.Min(room, wrap), Count));
        }

        /// <summary>The lowest offset of a batch of <paramref name="n"/> elements, the first of which is at <paramref name="offset"/>.</summary>
        public readonly ulong Low(ulong offset, ulong n) => Backward ? offset - (n - 1) * (ulong)Size : offset;

        public void Advance(ulong n, bool source, bool destination)
        {
            ulong step = Backward ? 0 - n * (ulong)Size : n * (ulong)Size;
            if (source)
                Put(_cpu, (int)Gpr.Rsi * 8, _op->AddrSize, Si + step);
            if (destination)
                Put(_cpu, (int)Gpr.Rdi * 8, _op->AddrSize, Di + step);
            if (_repeats)
                Put(_cpu, (int)Gpr.Rcx * 8, _op->AddrSize, Count - n);
            else
                _done = true;
            _steps += n > 1 ? ElementsPerLook : 1;
        }

        /// <summary>CMPS and SCAS: ends the repetition when ZF says so.</summary>
        public void StopIf(bool stop) => _done |= stop;

        /// <summary>A request waits and there is more to do: leaves with RIP still at the instruction.</summary>
        public bool Interrupted
        {
            get
            {
                if (!_repeats || !More)
                    return false;
                if (!_oneByOne)
                {
                    if (_steps < ElementsPerLook)
                        return false;
                    _steps = 0;
                    if (!_cpu.WantsBoundary)
                        return false;
                }

                _cpu.SetRip(_cpu.S->Rip);
                return true;
            }
        }
    }

    private static bool Movs(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        while (s.More)
        {
            ulong n = Math.Min(s.Batch(s.Si, op->Seg), s.Batch(s.Di, SegmentName.ES));
            if (n > 1 && !CopyBatch(cpu, op, ref s, ref n))
                return false;
            if (n <= 1)
            {
                if (!LoadSized(cpu, op->Seg, s.Si, s.Size, out ulong v) || !StoreSized(cpu, SegmentName.ES, s.Di, s.Size, v))
                    return false;
                n = 1;
            }

            s.Advance(n, source: true, destination: true);
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    /// <summary>Copies a batch between host pages. Where that is not possible <paramref name="n"/> becomes 1: the element path meets the fault or the device.</summary>
    private static bool CopyBatch(SoftVcpu cpu, Op* op, ref StringOp s, ref ulong n)
    {
        int bytes = (int)n * s.Size;
        byte* from = cpu.BatchSource(op->Seg, s.Low(s.Si, n), bytes);
        byte* to = from == null ? null : cpu.BatchDestination(SegmentName.ES, s.Low(s.Di, n), bytes);
        if (to == null)
        {
            n = 1;
            return true;
        }

        // A copy that overlaps in the direction that it goes: each element must see the ones before it.
        if (!s.Backward && to > from && to < from + bytes)
        {
            for (int i = 0; i < bytes; i += s.Size)
                WriteAt(to + i, s.Size, ReadAt(from + i, s.Size));
        }
        else if (s.Backward && from > to && from < to + bytes)
        {
            for (int i = bytes - s.Size; i >= 0; i -= s.Size)
                WriteAt(to + i, s.Size, ReadAt(from + i, s.Size));
        }
        else
        {
            Buffer.MemoryCopy(from, to, bytes, bytes);
        }

        return true;
    }

    private static bool Stos(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        ulong value = cpu.S->Gpr[0];
        while (s.More)
        {
            ulong n = s.Batch(s.Di, SegmentName.ES);
            byte* to = n > 1 ? cpu.BatchDestination(SegmentName.ES, s.Low(s.Di, n), (int)n * s.Size) : null;
            if (to == null)
            {
                n = 1;
                if (!StoreSized(cpu, SegmentName.ES, s.Di, s.Size, value))
                    return false;
            }
            else
            {
                FillBatch(to, (int)n, s.Size, value);
            }

            s.Advance(n, source: false, destination: true);
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static void FillBatch(byte* to, int n, int size, ulong value)
    {
        switch (size)
        {
            case 1:
                new Span<byte>(to, n).Fill((byte)value);
                break;
            case 2:
                new Span<ushort>(to, n).Fill((ushort)value);
                break;
            case 4:
                new Span<uint>(to, n).Fill((uint)value);
                break;
            default:
                new Span<ulong>(to, n).Fill(value);
                break;
        }
    }

    private static bool Lods(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        while (s.More)
        {
            if (!LoadSized(cpu, op->Seg, s.Si, s.Size, out ulong v))
                return false;
            Put(cpu, 0, s.Size, v);
            s.Advance(1, source: true, destination: false);
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static bool Cmps(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        while (s.More)
        {
            if (!LoadSized(cpu, op->Seg, s.Si, s.Size, out ulong a) || !LoadSized(cpu, SegmentName.ES, s.Di, s.Size, out ulong b))
                return false;
            Sub.Compute(cpu.N, SignExtend(a, s.Size), SignExtend(b, s.Size), s.Size);
            s.Advance(1, source: true, destination: true);
            s.StopIf(StopsComparing(cpu, op));
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static bool Scas(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        ulong a = SignExtend(cpu.S->Gpr[0], s.Size);
        while (s.More)
        {
            if (!LoadSized(cpu, SegmentName.ES, s.Di, s.Size, out ulong b))
                return false;
            Sub.Compute(cpu.N, a, SignExtend(b, s.Size), s.Size);
            s.Advance(1, source: false, destination: true);
            s.StopIf(StopsComparing(cpu, op));
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static bool StopsComparing(SoftVcpu cpu, Op* op) => op->Has(OpFlags.Rep) ? !cpu.N->ZF() : op->Has(OpFlags.Repne) && cpu.N->ZF();

    private static void RegisterStrings(HandlerTableBuilder b)
    {
        b.Register(&Movs, Code.Movsb_m8_m8, Code.Movsw_m16_m16, Code.Movsd_m32_m32, Code.Movsq_m64_m64);
        b.Register(&Stos, Code.Stosb_m8_AL, Code.Stosw_m16_AX, Code.Stosd_m32_EAX, Code.Stosq_m64_RAX);
        b.Register(&Lods, Code.Lodsb_AL_m8, Code.Lodsw_AX_m16, Code.Lodsd_EAX_m32, Code.Lodsq_RAX_m64);
        b.Register(&Cmps, Code.Cmpsb_m8_m8, Code.Cmpsw_m16_m16, Code.Cmpsd_m32_m32, Code.Cmpsq_m64_m64);
        b.Register(&Scas, Code.Scasb_AL_m8, Code.Scasw_AX_m16, Code.Scasd_EAX_m32, Code.Scasq_RAX_m64);
    }
}
