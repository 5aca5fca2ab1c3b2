using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

// VEX moves without generated code, and the instructions that clear upper halves.
internal static unsafe partial class SimdHandlers
{
    private static bool VexLoad(SoftVcpu cpu, Op* op)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        int size = op->Has(OpFlags.Vex256) ? 32 : 16;
        if (!op->IsMemory)
        {
            CopyVector(cpu.S, op->Reg, op->Rm, size);
            return true;
        }

        byte* value = stackalloc byte[32];
        if (!cpu.LoadBytes(op->Seg, cpu.EffectiveAddress(op), value, size))
            return false;
        SetVector(cpu.S, op->Reg, value, size);
        return true;
    }

    private static bool VexStore(SoftVcpu cpu, Op* op)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        int size = op->Has(OpFlags.Vex256) ? 32 : 16;
        if (!op->IsMemory)
        {
            CopyVector(cpu.S, op->Rm, op->Reg, size);
            return true;
        }

        byte* value = stackalloc byte[32];
        GetVector(cpu.S, op->Reg, value);
        return cpu.StoreBytes(op->Seg, cpu.EffectiveAddress(op), value, size);
    }

    /// <summary>All 32 bytes of a YMM register.</summary>
    private static void GetVector(VcpuState* s, int n, byte* value)
    {
        Unsafe.CopyBlock(value, VectorFile.XmmAt(s, n), 16);
        Unsafe.CopyBlock(value + 16, VectorFile.YmmHighAt(s, n), 16);
    }

    /// <summary>Writes all 32 bytes of a YMM register and leaves what lies above alone.</summary>
    private static void SetYmm(VcpuState* s, int n, byte* value)
    {
        Unsafe.CopyBlock(VectorFile.XmmAt(s, n), value, 16);
        Unsafe.CopyBlock(VectorFile.YmmHighAt(s, n), value + 16, 16);
    }

    /// <summary>Writes a register as a VEX instruction does: what lies above <paramref name="size"/> becomes zero.</summary>
    private static void SetVector(VcpuState* s, int n, byte* value, int size)
    {
        Unsafe.CopyBlock(VectorFile.XmmAt(s, n), value, 16);
        if (size == 32)
            Unsafe.CopyBlock(VectorFile.YmmHighAt(s, n), value + 16, 16);
        else
            Unsafe.InitBlock(VectorFile.YmmHighAt(s, n), 0, 16);
        Unsafe.InitBlock(VectorFile.ZmmHighAt(s, n), 0, 32);
    }

    private static void CopyVector(VcpuState* s, int to, int from, int size)
    {
        byte* value = stackalloc byte[32];
        GetVector(s, from, value);
        SetVector(s, to, value, size);
    }

    // Outside 64-bit mode only registers 0–7 exist, and 8–15 keep their values (SDM Vol. 2C, VZEROUPPER).
    private static uint RegisterCount(VcpuState* s) => s->Mode == CpuMode.Long ? 16u : 8u;

    private static bool Vzeroupper(SoftVcpu cpu, Op* op)
    {
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        Unsafe.InitBlock(VectorFile.YmmHighAt(cpu.S, 0), 0, 16 * RegisterCount(cpu.S));
        Unsafe.InitBlock(VectorFile.ZmmHighAt(cpu.S, 0), 0, 32 * RegisterCount(cpu.S));
        return true;
    }

    private static bool Vzeroall(SoftVcpu cpu, Op* op)
    {
        if (!Vzeroupper(cpu, op))
            return false;
        Unsafe.InitBlock(VectorFile.XmmAt(cpu.S, 0), 0, 16 * RegisterCount(cpu.S));
        return true;
    }
}
