namespace VirtPS.Emulation;

// The guest's x87 state (and with it its MMX registers) in the host's and back.
internal sealed unsafe partial class Stubs
{
    private static readonly int s_x87Ready = OffsetOf(n => (byte*)&n->X87Ready);

    public static readonly int X87IdleOffset = OffsetOf(n => (byte*)&n->X87Idle);

    /// <summary>From the stack pointer to the guest's XSAVE area.</summary>
    public static int XsaveOffset => s_xsave;

    /// <summary>In a site: the code behind takes the x87 state to be loaded.</summary>
    public const uint KeepX87 = 1u << 30;

    /// <summary>Called with the site in R11D where the x87 state is not loaded: loads it, or has the interpreter do the rest of the block.</summary>
    public StubCode X87Gate => Get(StubName.X87Gate);

    private byte* _loadX87, _saveX87;

    private void EmitX87(ref HostAssembler a)
    {
        // The stack pointer is 12 modulo 64.
        if ((s_xsave + 12 & 63) != 0)
            throw new InvalidOperationException("The XSAVE area is not aligned.");
        EmitLoadX87(ref a);
        EmitSaveX87(ref a);
    }

    /// <summary>
    /// A subroutine: the guest's x87 state, in which everything is masked and nothing pending, into the host's. The header names the x87 component alone, whatever was there: execution does not keep
    /// it. Changes R10 and R11.
    /// </summary>
    private void EmitLoadX87(ref HostAssembler a)
    {
        _loadX87 = a.Next;
        a.Move(HostReg.R10, HostReg.Rax);
        a.Move(HostReg.R11, HostReg.Rdx);
        for (int i = 0; i < 3; i++)
            a.StoreImmediate(Called(s_xsave + VectorFile.HeaderOffset + 8 * i), i == 0 ? 1 : 0);
        a.MoveImmediate(HostReg.Rax, 1);
        a.MoveImmediate(HostReg.Rdx, 0);
        // XRSTOR64
        a.Op(0xAE | HostOp.Map0F, 5, Called(s_xsave), w: true);
        a.StoreImmediate32(Called(X87IdleOffset), 0);
        a.Move(HostReg.Rax, HostReg.R10);
        a.Move(HostReg.Rdx, HostReg.R11);
        a.Return();
    }

    /// <summary>A subroutine: back, but for the pointers to the last instruction, which the guest's have their own place for. Changes RAX, RDX, R8 to R10.</summary>
    private void EmitSaveX87(ref HostAssembler a)
    {
        _saveX87 = a.Next;
        HostMemory fop = Called(s_xsave + VectorFile.Fop), fip = Called(s_xsave + VectorFile.Fip), fdp = Called(s_xsave + VectorFile.Fdp);
        a.Op(0xB7 | HostOp.Map0F, (int)HostReg.R8, fop);
        a.Load(HostReg.R9, fip);
        a.Load(HostReg.R10, fdp);
        a.MoveImmediate(HostReg.Rax, 1);
        a.MoveImmediate(HostReg.Rdx, 0);
        // XSAVE64; FNINIT: managed code finds nothing on the stack and its own control word.
        a.Op(0xAE | HostOp.Map0F, 4, Called(s_xsave), w: true);
        a.Byte(0xDB);
        a.Byte(0xE3);
        a.Op(0x89 | HostOp.P66, (int)HostReg.R8, fop);
        a.Store(fip, HostReg.R9);
        a.Store(fdp, HostReg.R10);
        a.StoreImmediate32(Called(X87IdleOffset), 1);
        a.Return();
    }

    /// <summary>Saves the x87 state if it is loaded. Changes flags, RAX, RDX, R8 to R10.</summary>
    private void EmitSaveLiveX87(ref HostAssembler a)
    {
        if (!_host.Xsave)
            return;
        // CMP dword, 0; JNE
        a.Op(0x83, 7, HostMemory.State(X87IdleOffset));
        a.Byte(0);
        byte* idle = a.JumpIf(5);
        a.Call(_saveX87);
        a.Bind(idle);
    }
}
