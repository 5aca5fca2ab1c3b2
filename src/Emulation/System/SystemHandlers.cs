using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>System instructions: control registers, descriptor tables, far transfers, interrupts.</summary>
internal static unsafe partial class SystemHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
        RegisterSegments(b);
        RegisterDescriptorTables(b);
        RegisterFarTransfers(b);
        RegisterFlags(b);
        RegisterControl(b);
        RegisterProcessor(b);
    }

    private static bool UndefinedOpcode(SoftVcpu cpu, Op* op) => cpu.Raise(Vector.UD);

    /// <summary>Most system instructions do not exist in real and virtual-8086 mode.</summary>
    private static bool NeedsProtectedMode(SoftVcpu cpu) => !cpu.SegmentsAreReal || cpu.Raise(Vector.UD);

    private static bool NeedsRing0(SoftVcpu cpu) => cpu.S->Cpl == 0 || cpu.Raise(Vector.GP, 0);

    private static void WriteGpr(SoftVcpu cpu, int number, int size, ulong value)
    {
        ulong* r = &cpu.S->Gpr[number];
        *r = size switch
        {
            2 => (*r & ~0xFFFFul) | (ushort)value,
            4 => (uint)value,
            _ => value,
        };
    }

    /// <summary>A 16-bit r/m source operand, whatever the operand size.</summary>
    private static bool ReadRm16(SoftVcpu cpu, Op* op, out ushort value)
    {
        if (op->IsMemory)
            return cpu.Load(op->Seg, cpu.EffectiveAddress(op), out value);
        value = (ushort)cpu.S->Gpr[op->Rm];
        return true;
    }

    /// <summary>A selector-like result: 16 bits to memory, zero-extended to the operand size in a register.</summary>
    private static bool WriteRm16(SoftVcpu cpu, Op* op, int registerSize, ushort value)
    {
        if (op->IsMemory)
            return cpu.Store(op->Seg, cpu.EffectiveAddress(op), value);
        WriteGpr(cpu, op->Rm, registerSize, value);
        return true;
    }

    private static void SetZeroFlag(SoftVcpu cpu, bool set)
    {
        ulong flags = cpu.GetFlags();
        cpu.SetFlags(set ? flags | Rflags.ZF : flags & ~Rflags.ZF);
    }
}
