using Iced.Intel;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>
/// x87, MMX, SSE, AVX, AVX-512 and the XSAVE family. Everything the host offers runs through thunks by default; what touches memory or state in its own way, and
/// the moves that user space does most, have handlers of their own.
/// </summary>
internal static unsafe partial class SimdHandlers
{
    public static void Register(HandlerTableBuilder b)
    {
        foreach (Code code in VectorCodes.All(HostFeatures.Current))
            b.Register(code, code.Encoding() == EncodingKind.EVEX ? WideHandlerOf(code) : &Link);
        RegisterX87Control(b);
        RegisterMoves(b);
        RegisterMasked(b);
        RegisterGathers(b);
        RegisterXsave(b);
    }

    /// <summary>First execution of an op: finds or makes its thunk, and puts the specialised handler in its place.</summary>
    private static bool Link(SoftVcpu cpu, Op* op)
    {
        var decoder = Decoder.Create(Bitness(cpu), new ByteArrayCodeReader(new ReadOnlySpan<byte>(Op.Bytes(op), op->Length).ToArray()));
        decoder.Decode(out Instruction instruction);
        ThunkInfo* info = cpu.Thunks.Get(instruction, out uint registers);
        if (info == null)
            return cpu.Raise(X86.Vector.UD);
        // The immediate is part of the thunk, so its field is free, and only the main loop uses the offsets.
        op->Imm = (ulong)info;
        (op->RegOff, op->RmOff) = ((ushort)registers, (ushort)(registers >> 16));
        op->Slow = info->Class == VectorClass.X87 ? &ExecuteX87 : info->Class == VectorClass.Avx512 ? &ExecuteWide : info->Has(ThunkFlags.Mxcsr) ? &ExecuteFloat : &ExecuteVector;
        return op->Slow(cpu, op);
    }

    private static int Bitness(SoftVcpu cpu) => cpu.S->Mode switch
    {
        Sdk.Cpu.CpuMode.Long => 64,
        Sdk.Cpu.CpuMode.Protected32 => 32,
        Sdk.Cpu.CpuMode.Compatibility => cpu.S->CS.IsDefault32 ? 32 : 16,
        _ => 16,
    };
}
