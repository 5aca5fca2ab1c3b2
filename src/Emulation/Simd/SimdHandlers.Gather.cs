using System.Runtime.CompilerServices;
using Iced.Intel;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// AVX2 gathers (SDM Vol. 2C, VGATHERDPS). Elements complete one by one, lowest first: a fault leaves those before it loaded and their mask bits clear, so that the
// restarted instruction goes on where it stopped.
internal static unsafe partial class SimdHandlers
{
    private static void RegisterGathers(HandlerTableBuilder b)
    {
        if (!HostFeatures.Current.Avx2)
            return;
        b.Register(&Gather44, Code.VEX_Vpgatherdd_xmm_vm32x_xmm, Code.VEX_Vpgatherdd_ymm_vm32y_ymm, Code.VEX_Vgatherdps_xmm_vm32x_xmm,
            Code.VEX_Vgatherdps_ymm_vm32y_ymm);
        b.Register(&Gather48, Code.VEX_Vpgatherdq_xmm_vm32x_xmm, Code.VEX_Vpgatherdq_ymm_vm32x_ymm, Code.VEX_Vgatherdpd_xmm_vm32x_xmm,
            Code.VEX_Vgatherdpd_ymm_vm32x_ymm);
        b.Register(&Gather84, Code.VEX_Vpgatherqd_xmm_vm64x_xmm, Code.VEX_Vpgatherqd_xmm_vm64y_xmm, Code.VEX_Vgatherqps_xmm_vm64x_xmm,
            Code.VEX_Vgatherqps_xmm_vm64y_xmm);
        b.Register(&Gather88, Code.VEX_Vpgatherqq_xmm_vm64x_xmm, Code.VEX_Vpgatherqq_ymm_vm64y_ymm, Code.VEX_Vgatherqpd_xmm_vm64x_xmm,
            Code.VEX_Vgatherqpd_ymm_vm64y_ymm);
    }

    private static bool Gather44(SoftVcpu cpu, Op* op) => Gather(cpu, op, 4, 4);

    private static bool Gather48(SoftVcpu cpu, Op* op) => Gather(cpu, op, 4, 8);

    private static bool Gather84(SoftVcpu cpu, Op* op) => Gather(cpu, op, 8, 4);

    private static bool Gather88(SoftVcpu cpu, Op* op) => Gather(cpu, op, 8, 8);

    private static bool Gather(SoftVcpu cpu, Op* op, int indexSize, int dataSize)
    {
        int destination = op->Reg, index = op->Index, maskRegister = VvvvOf(op);
        if (!cpu.VectorAvailable(VectorClass.Avx))
            return false;
        if (destination == index || destination == maskRegister || index == maskRegister)
            return cpu.Raise(Vector.UD);
        byte* data = stackalloc byte[32];
        byte* mask = stackalloc byte[32];
        byte* indices = stackalloc byte[32];
        GetVector(cpu.S, destination, data);
        GetVector(cpu.S, maskRegister, mask);
        GetVector(cpu.S, index, indices);
        int count = (op->Has(OpFlags.Vex256) ? 32 : 16) / Math.Max(indexSize, dataSize);
        ulong origin = (op->Base == 0xFF ? 0 : cpu.S->Gpr[op->Base]) + (ulong)op->Disp;
        bool done = true;
        for (int i = 0; i < count && done; i++)
        {
            byte* element = mask + i * dataSize;
            if ((sbyte)element[dataSize - 1] < 0)
            {
                long at = indexSize == 4 ? ((int*)indices)[i] : ((long*)indices)[i];
                ulong offset = origin + ((ulong)at << op->Scale) & op->AddrMask;
                ulong value;
                done = cpu.LoadOperand(op->Seg, offset, (byte*)&value, dataSize);
                if (done)
                    Unsafe.CopyBlock(data + i * dataSize, &value, (uint)dataSize);
            }

            if (done)
                new Span<byte>(element, dataSize).Clear();
        }

        // A fault leaves what was gathered so far and does not come to the upper parts (SDM Vol. 2C, VGATHERDPD).
        int width = count * dataSize;
        if (done)
        {
            new Span<byte>(data + width, 32 - width).Clear();
            new Span<byte>(mask + width, 32 - width).Clear();
        }

        if (done)
        {
            SetVector(cpu.S, destination, data, 32);
            SetVector(cpu.S, maskRegister, mask, 32);
        }
        else
        {
            SetYmm(cpu.S, destination, data);
            SetYmm(cpu.S, maskRegister, mask);
        }

        return done;
    }
}
