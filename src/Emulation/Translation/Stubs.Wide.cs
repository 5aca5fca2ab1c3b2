namespace VirtPS.Emulation;

// The guest's AVX-512 state into the host's registers and back. Bits 256–511 of ZMM0–15 go with the vector registers, since a VEX instruction clears them; ZMM16–31 and the masks only
// where code uses them. Most guests leave all that zero most of the time, and then none of it is moved.
internal sealed unsafe partial class Stubs
{
    private static readonly int s_wideReady = OffsetOf(n => (byte*)&n->WideReady), s_zmmHighLive = OffsetOf(n => (byte*)&n->ZmmHighLive);

    public static readonly int WideIdleOffset = OffsetOf(n => (byte*)&n->WideIdle);

    /// <summary>In a site: the code behind takes ZMM16–31 and the masks to be loaded.</summary>
    public const uint KeepWide = 1u << 29;

    // EVEX prefixes (SDM Vol. 2A §2.7.1) without registers: 512 bits, no mask, no second source.
    private const int Evex512 = 0x48_0000, EvexMap0F = 1, EvexMap0F3A = 3, Pp66 = 0x100, FixedW0 = 0x7C00, FixedW1 = 0xFC00;
    private const int MoveUnaligned = Evex512 | FixedW0 | EvexMap0F, HalfOf = Evex512 | FixedW1 | Pp66 | EvexMap0F3A;

    private static HostMemory ZmmHigh(int n) => Called(s_xsave + VectorFile.ZmmHigh + 32 * n);

    private static HostMemory HighZmm(int n) => Called(s_xsave + VectorFile.HighZmm + 64 * (n - 16));

    private static HostMemory Opmask(int n) => Called(s_xsave + VectorFile.Opmask + 8 * n);

    /// <summary>The rest of <see cref="EmitLoadVectors"/>: as narrow as the state allows. Uses RCX, which is saved, and no mask register: they may be the guest's already.</summary>
    private static void EmitLoadWideRegisters(ref HostAssembler a)
    {
        byte* wide = EmitIsZero(ref a, s_xsave + VectorFile.ZmmHigh, 512);
        byte* ymm = EmitIsZero(ref a, s_xsave + VectorFile.YmmHigh, 256);
        // After the wide instructions above the processor would take upper halves to be in use, whatever is loaded, and let SSE instructions wait for them.
        EmitZeroUpper(ref a);
        EmitLoadRegisters(ref a, wide: false);
        a.Bind(ymm);
        EmitLoadRegisters(ref a, wide: true);
        a.Bind(wide);
        for (int n = 0; n < 16; n++)
        {
            // VMOVUPS, VINSERTF128, VINSERTF64X4
            a.Vex(0x10 | HostOp.Map0F, n, 0, Xmm(n));
            a.Vex(0x18 | HostOp.Map0F3A | HostOp.P66, n, n, YmmHigh(n), l: true);
            a.Byte(1);
            a.Evex(HalfOf & ~0x7800 | (~n & 15) << 11, 0x1A, n, ZmmHigh(n));
            a.Byte(1);
        }

        a.StoreImmediate32(Called(s_zmmHighLive), 1);
        EmitLoaded(ref a);
    }

    /// <summary>Goes on where so many bytes of the state, 64 at a time, are zero; else to the address that is to be bound.</summary>
    private static byte* EmitIsZero(ref HostAssembler a, int offset, int bytes)
    {
        a.Evex(MoveUnaligned, 0x10, 0, Called(offset));
        // VPORQ
        for (int at = 64; at < bytes; at += 64)
            a.Evex(Evex512 | FixedW1 | Pp66 | EvexMap0F, 0xEB, 0, Called(offset + at));
        // VEXTRACTF64X4, VPOR; VEXTRACTF128, VPOR
        a.Evex(HalfOf, 0x1B, 0, 1);
        a.Byte(1);
        a.Vex(0xEB | HostOp.Map0F | HostOp.P66, 0, 0, (HostReg)1, l: true);
        a.Vex(0x19 | HostOp.Map0F3A | HostOp.P66, 0, 0, (HostReg)1, l: true);
        a.Byte(1);
        a.Vex(0xEB | HostOp.Map0F | HostOp.P66, 0, 0, (HostReg)1);
        return EmitJumpUnlessZero(ref a);
    }

    /// <summary>A subroutine: ZMM16–31 and the masks into the host's registers, and the others if they are not there. Changes R10 and nothing else.</summary>
    private void EmitLoadWide(ref HostAssembler a)
    {
        _loadWide = a.Next;
        for (int n = 16; n < 32; n++)
            a.Evex(MoveUnaligned, 0x10, n, HighZmm(n));
        // KMOVQ
        for (int n = 0; n < 8; n++)
            a.Vex(0x90 | HostOp.Map0F, n, 0, Opmask(n), w: true);
        a.StoreImmediate32(Called(WideIdleOffset), 0);
        a.StoreImmediate32(Called(s_zmmHighLive), 1);
        a.Move(HostReg.R10, HostReg.Rcx);
        a.Load32(HostReg.Rcx, Called(VectorIdleOffset));
        byte* loaded = a.JumpIfRcxZero();
        a.Move(HostReg.Rcx, HostReg.R10);
        a.Jump(_loadVectors);
        a.BindShort(loaded);
        a.Move(HostReg.Rcx, HostReg.R10);
        a.Return();
    }

    /// <summary>The part of <see cref="EmitSaveVectors"/> for what is live of the AVX-512 state. Changes flags.</summary>
    private static void EmitSaveWide(ref HostAssembler a)
    {
        // CMP dword, 0; JE
        a.Op(0x83, 7, Called(s_zmmHighLive));
        a.Byte(0);
        byte* narrow = a.JumpIf(4);
        // VEXTRACTF64X4
        for (int n = 0; n < 16; n++)
        {
            a.Evex(HalfOf, 0x1B, n, ZmmHigh(n));
            a.Byte(1);
        }

        a.StoreImmediate32(Called(s_zmmHighLive), 0);
        a.Bind(narrow);
        // CMP dword, 0; JNE
        a.Op(0x83, 7, Called(WideIdleOffset));
        a.Byte(0);
        byte* idle = a.JumpIf(5);
        for (int n = 16; n < 32; n++)
            a.Evex(MoveUnaligned, 0x11, n, HighZmm(n));
        for (int n = 0; n < 8; n++)
            a.Vex(0x91 | HostOp.Map0F, n, 0, Opmask(n), w: true);
        a.StoreImmediate32(Called(WideIdleOffset), 1);
        a.Bind(idle);
    }
}
