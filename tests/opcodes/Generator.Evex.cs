using Iced.Intel;

namespace VirtPS.Opcodes;

// What EVEX adds: 32 registers, masks, broadcasts, rounding, scaled displacements, and index registers of 512 bits.
internal sealed unsafe partial class Generator
{
    /// <summary>Vector registers that the form at hand can name.</summary>
    private int _vectors;

    /// <summary>Elements whose indices lead far away.</summary>
    private ulong? _wild;

    private static bool IsEvex(Code code) => code.Encoding() == EncodingKind.EVEX;

    /// <summary>The form can have a mask register that keeps elements from memory.</summary>
    public static bool IsMasked(Code code) => IsEvex(code) && code.ToOpCode().CanUseOpMaskRegister;

    private void BeginEvex(ref Instruction i, OpCodeInfo info)
    {
        _vectors = bits == 64 && IsEvex(i.Code) ? 32 : _registers;
        if (info.RequireOpMaskRegister || (info.CanUseOpMaskRegister && !random.OneIn(3)))
            i.OpMask = Register.K1 + random.Below(7);
    }

    /// <summary>Zeroing, rounding and {sae}, where the operands that were chosen allow them; and often a mask loaded just before.</summary>
    private bool FinishEvex(ref Instruction i, OpCodeInfo info)
    {
        if (!IsEvex(i.Code))
            return true;
        if (i.OpMask != Register.None)
        {
            i.ZeroingMasking = info.CanUseZeroingMasking && i.Op0Kind != OpKind.Memory && random.OneIn(2);
            if (Dangerous || _wild != null || random.OneIn(2))
                SetUpMask(i);
        }

        if (HasMemory(i))
            return !i.IsVsib || i.Op0Kind == OpKind.Memory || i.Op0Register.GetNumber() != i.MemoryIndex.GetNumber();
        if (info.CanUseRoundingControl && random.OneIn(2))
            i.RoundingControl = RoundingControl.RoundToNearest + random.Below(4);
        else if (info.CanSuppressAllExceptions && !info.CanUseRoundingControl && random.OneIn(2))
            i.SuppressAllExceptions = true;
        return true;
    }

    private static bool HasMemory(in Instruction i)
    {
        for (int k = 0; k < i.OpCount; k++)
        {
            if (i.GetOpKind(k) == OpKind.Memory)
                return true;
        }

        return false;
    }

    private void SetUpMask(in Instruction i)
    {
        ulong mask = MachineImage.RandomMask(random);
        if (Dangerous && !i.IsVsib && HasMemory(i) && !random.OneIn(3))
            mask &= Reachable(i);
        LoadMask(i.OpMask, mask & ~(_wild ?? 0));
    }

    private void LoadMask(Register register, ulong mask)
    {
        _setUp.Add(Poke(layout.MaskSlot, (uint)mask));
        _setUp.Add(Poke(layout.MaskSlot + 4, (uint)(mask >> 32)));
        _setUp.Add(Instruction.Create(Code.VEX_Kmovq_kr_km64, register, Absolute(layout.MaskSlot)));
    }

    /// <summary>Elements of the memory operand that lie before the page that is not there.</summary>
    private ulong Reachable(in Instruction i)
    {
        if (_target >= (ulong)layout.Hole)
            return 0;
        int element = Math.Max(i.MemorySize.GetElementSize(), 1);
        ulong elements = ((ulong)layout.Hole - _target) / (ulong)element;
        return elements >= 64 ? ulong.MaxValue : (1ul << (int)elements) - 1;
    }

    /// <summary>Where masked operands are most interesting: over the edge to the page that is not there.</summary>
    private ulong EdgeAddress(int size, int alignment) => (ulong)layout.Hole - (ulong)((random.Below(size) + alignment - 1) & -alignment);

    /// <summary>Of a base register: none, a byte, which EVEX multiplies by the operand's size, or any.</summary>
    private long Displacement(in Instruction i, int size) => random.Below(3) switch
    {
        0 => 0,
        1 when IsEvex(i.Code) => (sbyte)random.Next() * (random.OneIn(2) ? size : 1L << random.Below(7)),
        1 => (sbyte)random.Next(),
        _ => (int)random.Next(),
    };

    /// <summary>A size of one lets the assembler choose the shortest form.</summary>
    private int DisplacementSize(in Instruction i, long displacement, bool narrow)
    {
        if (displacement == 0)
            return 0;
        return displacement == (sbyte)displacement || (IsEvex(i.Code) && !random.OneIn(4)) ? 1 : narrow ? 4 : 8;
    }

    private bool SetVsib(ref Instruction i, int k, Register file, bool quad)
    {
        i.SetOpKind(k, OpKind.Memory);
        int number = random.Below(_vectors);
        Register @base = (bits == 64 ? Register.RAX : Register.EAX) + random.Below(_registers);
        if (@base.GetFullRegister() == Register.RSP)
            return false;
        // Indices reach 1600 bytes to either side; what a scatter writes beyond the sandbox would not be seen.
        _target = (ulong)layout.Sandbox + 1600 + (ulong)random.Below(4980);
        long displacement = (sbyte)random.Next() * (IsEvex(i.Code) ? i.MemorySize.GetElementSize() : 1);
        (i.MemoryBase, i.MemoryIndex, i.MemoryIndexScale) = (@base, file + number, 1 << random.Below(4));
        (i.MemoryDisplacement64, i.MemoryDisplSize) = (bits == 64 ? (ulong)displacement : (uint)displacement, 1);
        ulong table = (ulong)layout.Table + (quad ? 2048u : 0u) + (ulong)(random.Below(190) * 8);
        _setUp.Add(Load(@base, _target - (ulong)displacement));
        if (!IsEvex(i.Code))
        {
            _setUp.Add(Instruction.Create(Code.VEX_Vmovdqu_ymm_ymmm256, Register.YMM0 + number, Absolute(table)));
            return true;
        }

        _setUp.Add(Instruction.Create(Code.EVEX_Vmovdqu64_zmm_k1z_zmmm512, Register.ZMM0 + number, Absolute(table)));
        if (random.OneIn(3))
            MakeSomeWild(ref i, Register.ZMM0 + number, quad);
        return true;
    }

    /// <summary>Elements that the mask leaves out may have any address: they get indices that lead far away.</summary>
    private void MakeSomeWild(ref Instruction i, Register index, bool quad)
    {
        ulong wild = MachineImage.RandomMask(random);
        LoadMask(i.OpMask, wild);
        Instruction shift = Instruction.Create(quad ? Code.EVEX_Vpsllq_zmm_k1z_zmmm512b64_imm8 : Code.EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8, index, index, 16 + random.Below(quad ? 48 : 16));
        shift.OpMask = i.OpMask;
        _setUp.Add(shift);
        _wild = wild;
    }
}
