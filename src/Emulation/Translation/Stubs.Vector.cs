namespace VirtPS.Emulation;

// The guest's vector registers into the host's and back.
internal sealed unsafe partial class Stubs
{
    private static HostMemory Xmm(int n) => Called(s_xsave + VectorFile.Xmm + 16 * n);

    private static HostMemory YmmHigh(int n) => Called(s_xsave + VectorFile.YmmHigh + 16 * n);

    /// <summary>
    /// A subroutine: the guest's vector registers and MXCSR, which masks everything, into the host's. Changes nothing else. Upper halves that are zero must be made so by an instruction
    /// that clears them: the processor then knows, and does not let each SSE instruction, which keeps them, wait for the register's former value.
    /// </summary>
    private void EmitLoadVectors(ref HostAssembler a)
    {
        _loadVectors = a.Next;
        HostMemory save = Called(VcpuMemory.SaveOffset);
        a.Op(0xAE | HostOp.Map0F, 2, Called(s_xsave + VectorFile.Mxcsr));
        if (!_host.Avx)
        {
            EmitMoveRegisters(ref a, load: true);
            a.StoreImmediate32(Called(VectorIdleOffset), 0);
            a.Return();
            return;
        }

        a.Store(save, HostReg.Rcx);
        if (_host.Avx512)
        {
            EmitLoadWideRegisters(ref a);
            return;
        }

        a.Vex(0x10 | HostOp.Map0F, 0, 0, YmmHigh(0));
        // VPOR
        for (int n = 1; n < 16; n++)
            a.Vex(0xEB | HostOp.Map0F | HostOp.P66, 0, 0, YmmHigh(n));
        byte* wide = EmitJumpUnlessZero(ref a);
        EmitLoadRegisters(ref a, wide: false);
        a.Bind(wide);
        EmitLoadRegisters(ref a, wide: true);
    }

    /// <summary>Goes on where XMM0 is zero, else to the address that is to be bound. Uses XMM1 and RCX.</summary>
    private static byte* EmitJumpUnlessZero(ref HostAssembler a)
    {
        // VPSHUFD, VPOR, VMOVQ: both halves in RCX
        a.Vex(0x70 | HostOp.Map0F | HostOp.P66, 1, 0, (HostReg)0);
        a.Byte(0x4E);
        a.Vex(0xEB | HostOp.Map0F | HostOp.P66, 0, 0, (HostReg)1);
        a.Vex(0x7E | HostOp.Map0F | HostOp.P66, 0, 0, HostReg.Rcx, w: true);
        byte* zero = a.JumpIfRcxZero();
        byte* field = a.Jump();
        a.BindShort(zero);
        return field;
    }

    private static void EmitLoadRegisters(ref HostAssembler a, bool wide)
    {
        for (int n = 0; n < 16; n++)
        {
            // VMOVUPS, VINSERTF128
            a.Vex(0x10 | HostOp.Map0F, n, 0, Xmm(n));
            if (!wide)
                continue;
            a.Vex(0x18 | HostOp.Map0F3A | HostOp.P66, n, n, YmmHigh(n), l: true);
            a.Byte(1);
        }

        EmitLoaded(ref a);
    }

    private static void EmitLoaded(ref HostAssembler a)
    {
        a.StoreImmediate32(Called(VectorIdleOffset), 0);
        a.Load(HostReg.Rcx, Called(VcpuMemory.SaveOffset));
        a.Return();
    }

    private void EmitSaveVectors(ref HostAssembler a)
    {
        _saveVectors = a.Next;
        a.Op(0xAE | HostOp.Map0F, 3, Called(s_xsave + VectorFile.Mxcsr));
        a.Op(0xAE | HostOp.Map0F, 2, Called(s_hostMxcsr));
        if (!_host.Avx)
        {
            EmitMoveRegisters(ref a, load: false);
            a.StoreImmediate32(Called(VectorIdleOffset), 1);
            a.Return();
            return;
        }

        for (int n = 0; n < 16; n++)
        {
            // VMOVUPS, VEXTRACTF128
            a.Vex(0x11 | HostOp.Map0F, n, 0, Xmm(n));
            a.Vex(0x19 | HostOp.Map0F3A | HostOp.P66, n, 0, YmmHigh(n), l: true);
            a.Byte(1);
        }

        if (_host.Avx512)
            EmitSaveWide(ref a);

        a.StoreImmediate32(Called(VectorIdleOffset), 1);
        // Managed code has SSE instructions.
        EmitZeroUpper(ref a);
        a.Return();
    }

    private static void EmitZeroUpper(ref HostAssembler a)
    {
        // VZEROUPPER
        a.Byte(0xC5);
        a.Byte(0xF8);
        a.Byte(0x77);
    }
}
