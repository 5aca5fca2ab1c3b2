using System.Runtime.InteropServices;
using Iced.Intel;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation.Thunks;

/// <summary>All thunks of one vCPU, by normalised encoding. Used by the vCPU's thread only.</summary>
internal sealed unsafe class ThunkCache(HostFeatures host) : IDisposable
{
    private static readonly ushort s_xsave = (ushort)Marshal.OffsetOf<VcpuState>(nameof(VcpuState.Xsave));
    private static readonly ushort s_gpr = (ushort)Marshal.OffsetOf<VcpuState>(nameof(VcpuState.Gpr));
    private readonly Dictionary<UInt128, nint> _infos = [];
    private readonly ExecutableMemory _memory = new();
    private readonly ThunkBuilder _builder = new();
    private readonly InstructionInfoFactory _facts = new();

    public int Count => _infos.Count;

    public long CodeBytes => _memory.CodeBytes;

    /// <summary>The thunk for an instruction, and its register numbers (<see cref="ThunkBuilder.Normalize"/>). Null when the host cannot encode it.</summary>
    public ThunkInfo* Get(in Instruction instruction, out uint registers)
    {
        Instruction normal = ThunkBuilder.Normalize(instruction, out registers);
        ReadOnlySpan<byte> encoding = _builder.Encode(normal);
        if (encoding.IsEmpty)
            return null;
        Span<byte> key = stackalloc byte[16];
        key.Clear();
        encoding.CopyTo(key);
        key[15] = (byte)encoding.Length;
        UInt128 id = MemoryMarshal.Read<UInt128>(key);
        if (!_infos.TryGetValue(id, out nint info))
            _infos.Add(id, info = (nint)Make(normal));
        return (ThunkInfo*)info;
    }

    public void Dispose()
    {
        foreach (nint info in _infos.Values)
            NativeMemory.Free((void*)info);
        _infos.Clear();
        _memory.Dispose();
    }

    private ThunkInfo* Make(in Instruction n)
    {
        // SAFETY: freed in Dispose, after the last op that points to it is gone.
        var info = (ThunkInfo*)NativeMemory.AllocZeroed((nuint)sizeof(ThunkInfo));
        info->MemoryIndex = 0xFF;
        info->OperandCount = (byte)n.OpCount;
        info->Class = ThunkFacts.ClassOf(n);
        InstructionInfo facts = _facts.GetInfo(n);
        for (int i = 0; i < n.OpCount; i++)
            DescribeOperand(info, n, i, facts.GetOpAccess(i));
        if (n.RflagsModified != RflagsBits.None)
            info->Flags |= ThunkFlags.WritesFlags;
        bool x87 = info->Class == VectorClass.X87;
        if (!x87)
            DescribeVector(info, n);
        ReadOnlySpan<byte> code = x87 ? _builder.BuildX87(n, host.Xsave) : _builder.BuildVector(n, *info);
        info->Run = (delegate* unmanaged[SuppressGCTransition]<ThunkFrame*, void>)_memory.Add(code);
        return info;
    }

    private static void DescribeVector(ThunkInfo* info, in Instruction n)
    {
        if (info->Class == VectorClass.Avx512)
            MaskFacts.Describe(info, n);
        if (n.OpMask != Register.None)
            info->Flags |= ThunkFlags.Masked;
        if (ThunkBuilder.WritesTwoMasks(n.Mnemonic))
            info->Flags |= ThunkFlags.TwoMasks;
        if (ThunkFacts.UsesMxcsr(n.Mnemonic))
            info->Flags |= ThunkFlags.Mxcsr;
        if (ThunkFacts.ReturnsMask(n.Mnemonic))
            info->Flags |= ThunkFlags.WritesXmm0;
        if (ThunkFacts.MustBeAligned(n))
            info->Flags |= ThunkFlags.Aligned;
        if (info->Class is VectorClass.Mmx or VectorClass.SseMmx)
            info->Flags |= ThunkFlags.MmxTransition;
        if (n.SuppressAllExceptions || n.RoundingControl != RoundingControl.None || ThunkFacts.RaisesNothing(n.Mnemonic))
            info->Flags |= ThunkFlags.Silent;
        else if (ThunkFacts.Underflow(n, out int size, out int count))
        {
            info->Flags |= ThunkFlags.MayUnderflow;
            info->ElementSize = (byte)size;
            info->ElementCount = (byte)count;
        }
    }

    private static void DescribeOperand(ThunkInfo* info, in Instruction n, int i, OpAccess access)
    {
        bool written = access is OpAccess.Write or OpAccess.CondWrite or OpAccess.ReadWrite or OpAccess.ReadCondWrite;
        bool read = access is OpAccess.Read or OpAccess.CondRead or OpAccess.ReadWrite or OpAccess.ReadCondWrite;
        OperandKind kind = KindOf(n, i);
        info->Kind[i] = (byte)kind;
        switch (kind)
        {
            case OperandKind.Memory:
                info->MemoryIndex = (byte)i;
                info->MemorySize = (byte)n.MemorySize.GetSize();
                info->Flags |= (read ? ThunkFlags.MemoryRead : 0) | (written ? ThunkFlags.MemoryWrite : 0);
                return;
            case OperandKind.Gpr:
                (info->Place[i], info->Shift[i]) = (s_gpr, 3);
                break;
            case OperandKind.Mmx:
                (info->Place[i], info->Shift[i]) = ((ushort)(s_xsave + VectorFile.St), 4);
                break;
            case OperandKind.Xmm or OperandKind.Ymm:
                (info->Place[i], info->Shift[i]) = ((ushort)(s_xsave + VectorFile.Xmm), 4);
                break;
        }

        if (written)
            info->Written |= (byte)(1 << i);
    }

    private static OperandKind KindOf(in Instruction n, int i)
    {
        OpKind kind = n.GetOpKind(i);
        if (kind == OpKind.Memory)
            return OperandKind.Memory;
        if (kind != OpKind.Register)
            return OperandKind.Immediate;
        Register r = n.GetOpRegister(i);
        if (r.IsK())
            return OperandKind.Mask;
        if (r.IsVectorRegister() && ThunkFacts.ClassOf(n) == VectorClass.Avx512)
            return OperandKind.Wide;
        return r.IsXMM() ? OperandKind.Xmm : r.IsYMM() ? OperandKind.Ymm : r.IsMM() ? OperandKind.Mmx : r.IsGPR() ? OperandKind.Gpr : OperandKind.None;
    }
}
