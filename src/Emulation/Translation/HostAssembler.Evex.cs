namespace VirtPS.Emulation;

// AVX-512's encoding (SDM Vol. 2A §2.7).
internal unsafe partial struct HostAssembler
{
    /// <summary>
    /// An EVEX-encoded instruction with a guest's prefix (its three bytes behind 62h): map, W, vvvv, vector length, broadcast and mask are taken from it, registers and memory are not.
    /// </summary>
    public void Evex(int prefix, int opcode, int reg, int rm)
    {
        EvexHead(prefix, opcode, reg, (~rm >> 3 & 1) << 5 | (~rm >> 4 & 1) << 6);
        Byte(0xC0 | (reg & 7) << 3 | rm & 7);
    }

    public void Evex(int prefix, int opcode, int reg, in HostMemory m)
    {
        int xb = MemoryBits(m);
        EvexHead(prefix, opcode, reg, (~xb & 1) << 5 | (~xb >> 1 & 1) << 6);
        // A short displacement would be scaled.
        Memory(reg, m, shortDisplacement: false);
    }

    private void EvexHead(int prefix, int opcode, int reg, int xb)
    {
        Byte(0x62);
        Byte(prefix & 0x0F | xb | (~reg >> 3 & 1) << 7 | (~reg >> 4 & 1) << 4);
        Byte(prefix >> 8);
        Byte(prefix >> 16);
        Byte(opcode);
    }
}
