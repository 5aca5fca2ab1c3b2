using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Emulation;

// IN, OUT, INS, OUTS.
internal static unsafe partial class IntegerHandlers
{
    private static ushort PortOf(SoftVcpu cpu, Op* op) => op->Has(OpFlags.Immediate) ? (byte)op->Imm : (ushort)cpu.S->Gpr[(int)Gpr.Rdx];

    private static bool In(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ushort port = PortOf(cpu, op);
        if (!cpu.CheckIoPermission(port, size))
            return false;
        ulong v = 0;
        cpu.Host.ReadPort(port, size, (byte*)&v, 1);
        Put(cpu, 0, size, v);
        return true;
    }

    private static bool Out(SoftVcpu cpu, Op* op)
    {
        int size = op->OpSize;
        ushort port = PortOf(cpu, op);
        if (!cpu.CheckIoPermission(port, size))
            return false;
        ulong v = Get(cpu, 0, size);
        cpu.Host.WritePort(port, size, (byte*)&v, 1);
        return true;
    }

    /// <summary>REP INS and OUTS go to the device in batches of at most what is left of the page.</summary>
    private static bool Ins(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        ushort port = (ushort)cpu.S->Gpr[(int)Gpr.Rdx];
        if (!cpu.CheckIoPermission(port, s.Size))
            return false;
        byte* buffer = stackalloc byte[4096];
        while (s.More)
        {
            ulong n = s.Batch(s.Di, SegmentName.ES);
            if (!cpu.ProbeWrite(SegmentName.ES, s.Di, (int)n * s.Size))
                return false;
            cpu.Host.ReadPort(port, s.Size, buffer, (int)n);
            if (!cpu.StoreBytes(SegmentName.ES, s.Di, buffer, (int)n * s.Size))
                return false;
            s.Advance(n, source: false, destination: true);
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static bool Outs(SoftVcpu cpu, Op* op)
    {
        var s = new StringOp(cpu, op);
        ushort port = (ushort)cpu.S->Gpr[(int)Gpr.Rdx];
        if (!cpu.CheckIoPermission(port, s.Size))
            return false;
        byte* buffer = stackalloc byte[4096];
        while (s.More)
        {
            ulong n = s.Batch(s.Si, op->Seg);
            if (!cpu.LoadBytes(op->Seg, s.Si, buffer, (int)n * s.Size))
                return false;
            cpu.Host.WritePort(port, s.Size, buffer, (int)n);
            s.Advance(n, source: true, destination: false);
            if (s.Interrupted)
                return true;
        }

        return true;
    }

    private static void RegisterPorts(HandlerTableBuilder b)
    {
        b.Register(Mnemonic.In, &In);
        b.Register(Mnemonic.Out, &Out);
        b.Register(Mnemonic.Insb, &Ins);
        b.Register(Mnemonic.Insw, &Ins);
        b.Register(Mnemonic.Insd, &Ins);
        b.Register(Mnemonic.Outsb, &Outs);
        b.Register(Mnemonic.Outsw, &Outs);
        b.Register(Mnemonic.Outsd, &Outs);
    }
}
