namespace VirtPS.Emulation;

// The common pieces for hosts without BMI2 (and AVX), and the sequences that translated blocks share with them: flags are put aside where the other kind never touches them.
internal sealed unsafe partial class Stubs
{
    /// <summary>Status flags to AX, RAX to memory. Changes no flag. <paramref name="below"/>: bytes that the stack pointer is below its place.</summary>
    public static void EmitFlagsAside(ref HostAssembler a, int below = 0)
    {
        a.Store(HostMemory.State(VcpuMemory.SaveOffset + below), HostReg.Rax);
        EmitPackFlags(ref a);
    }

    /// <summary>Undoes <see cref="EmitFlagsAside"/>.</summary>
    public static void EmitFlagsBack(ref HostAssembler a, int below = 0)
    {
        EmitUnpackFlags(ref a);
        a.Load(HostReg.Rax, HostMemory.State(VcpuMemory.SaveOffset + below));
    }

    /// <summary>
    /// Goes to the linear address in R10 if the jump cache has it. If not, it branches (the field is returned) to where <see cref="EmitJumpMissed"/> must be.
    /// </summary>
    public static byte* EmitJumpLookup(ref HostAssembler a, bool user, bool second)
    {
        EmitFlagsAside(ref a);
        if (second)
        {
            // ROR, ADD, AND, NEG, CMP: a tag is minus the target.
            a.Move(HostReg.R11, HostReg.R10);
            a.Op(0xC1, 1, HostReg.R11, w: true);
            a.Byte(JumpCache.SecondFold);
            a.Op(0x03, (int)HostReg.R11, HostReg.R10, w: true);
            a.Op(0x23, (int)HostReg.R11, HostMemory.State(VcpuMemory.JumpMaskOffset), w: true);
            a.Op(0xF7, 3, HostReg.R10, w: true);
            a.Op(0x3B, (int)HostReg.R10, HostMemory.Array(HostReg.R11, SecondJumpTags(user)), w: true);
        }
        else
        {
            // MOVZX, SHL, ADD, NEG, CMP
            a.Op(0xB7 | HostOp.Map0F, (int)HostReg.R11, HostReg.R10);
            a.Op(0xC1, 4, HostReg.R11, w: true);
            a.Byte(3);
            a.Op(0x03, (int)HostReg.R11, JumpTags(user), w: true);
            a.Op(0xF7, 3, HostReg.R10, w: true);
            a.Op(0x3B, (int)HostReg.R10, new HostMemory(HostReg.R11, 0), w: true);
        }

        byte* miss = a.JumpIf(5);
        if (user)
        {
            a.Op(0xF7, 3, HostReg.R10, w: true);
            a.Op(0x81, 4, HostReg.R10, w: true);
            a.Int32(~0xFFF);
            a.Store(HostMemory.State(VcpuMemory.PageBaseOffset), HostReg.R10);
        }

        EmitFlagsBack(ref a);
        a.JumpMemory(second ? HostMemory.Array(HostReg.R11, SecondJumpTags(user) + VcpuMemory.SecondJumpArrayBytes) : new HostMemory(HostReg.R11, VcpuMemory.JumpArrayBytes));
        return miss;
    }

    /// <summary>Everything but R11 as it was before <see cref="EmitJumpLookup"/>.</summary>
    public static void EmitJumpMissed(ref HostAssembler a)
    {
        a.Op(0xF7, 3, HostReg.R10, w: true);
        EmitFlagsBack(ref a);
    }

    private void EmitSecondLookWithFlagsAside(ref HostAssembler a, bool user)
    {
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        a.Bind(EmitJumpLookup(ref a, user, second: true));
        EmitJumpMissed(ref a);
        a.Load32(HostReg.R11, HostMemory.State(s_exitSite));
        a.Jump(ExitIndirect);
    }

    /// <summary>As <see cref="EmitReplaceBit"/>.</summary>
    private static void EmitReplaceBitWithFlagsAside(ref HostAssembler a, in HostMemory field, int bit, bool set)
    {
        EmitFlagsAside(ref a, below: 8);
        // OR, AND
        a.Op(0x81, set ? 1 : 4, field);
        a.Int32(set ? 1 << bit : ~(1 << bit));
        EmitFlagsBack(ref a, below: 8);
    }

    /// <summary>The vector registers of a host without AVX, from or to the state: MOVUPS.</summary>
    private static void EmitMoveRegisters(ref HostAssembler a, bool load)
    {
        for (int n = 0; n < 16; n++)
            a.Op((load ? 0x10 : 0x11) | HostOp.Map0F, n, Xmm(n));
    }

    /// <summary>As <see cref="EmitFlags"/>.</summary>
    private static void EmitFlagsWithFlagsAside(ref HostAssembler a)
    {
        EmitFlagsAside(ref a, below: 8);
        a.Byte(0x9C);
        a.Pop(HostReg.R11);
        a.Op(0x23, (int)HostReg.R11, Called(s_statusMask), w: true);
        a.Push(HostReg.R10);
        a.Load(HostReg.R10, HostMemory.State(s_rflags + 16));
        a.Op(0x23, (int)HostReg.R10, HostMemory.State(s_otherMask + 16), w: true);
        a.Op(0x0B, (int)HostReg.R11, HostReg.R10, w: true);
        a.Pop(HostReg.R10);
        EmitFlagsBack(ref a, below: 8);
        a.Return();
    }
}
