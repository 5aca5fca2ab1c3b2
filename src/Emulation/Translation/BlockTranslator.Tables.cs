using Iced.Intel;

namespace VirtPS.Emulation;

// Tables in rounds without checks: what is accessed by a base that stays and an index that data gives, as in checksums, ciphers, translations of characters. It follows no line, but where the round itself says
// that the index is below some number, all that may be reached is known. If it lies in one page no access needs a check, so that the address does not wait for what the TLB says.
internal sealed unsafe partial class BlockTranslator
{
    /// <summary>The table that an access joins or begins; -1: it is none, or there is no room.</summary>
    private int JoinTable(int index, in BasedAccess access, uint changes)
    {
        if (access.Base == NoRegister || (changes >> access.Base & 1) != 0 || access.Alignment != 1)
            return -1;
        int bound = BoundOf(index, access.Index);
        long low = access.Distance, high = low + ((long)bound << access.Scale) + access.Size;
        if (bound < 0 || high - low > 4096 || high > int.MaxValue)
            return -1;
        for (int s = 0; s < _streamCount; s++)
        {
            ref Stream table = ref _streams[s];
            if (!table.IsTable || table.Base != access.Base || Math.Max(table.High, high) - Math.Min(table.Low, low) > 4096)
                continue;
            (table.Low, table.High) = ((int)Math.Min(table.Low, low), (int)Math.Max(table.High, high));
            table.Writes |= access.Writes;
            return s;
        }

        if (_streamCount == VcpuMemory.StreamCount)
            return -1;
        _streams[_streamCount] = new Stream { Base = access.Base, Index = NoRegister, Alignment = 1, Low = (int)low, High = (int)high, Writes = access.Writes, HasBase = true, IsTable = true };
        return _streamCount++;
    }

    /// <summary>The most that a register can hold at an instruction of the loop, as the one that wrote it in the same round says; -1: it does not.</summary>
    private int BoundOf(int index, int register)
    {
        while (--index >= 0)
        {
            if ((_facts[index].Changes >> register & 1) != 0)
                return BoundFrom(_block->Ops + index, register);
        }

        return -1;
    }

    private static int BoundFrom(Op* op, int register)
    {
        if (op->Code is Code.Movzx_r32_rm8 or Code.Movzx_r64_rm8)
            return op->Reg == register ? 255 : -1;
        if (op->IsMemory || op->Rm != register)
            return -1;
        int by = (int)op->Imm;
        switch (op->Code)
        {
            case Code.And_rm32_imm8 or Code.And_rm64_imm8 or Code.And_rm32_imm32 or Code.And_rm64_imm32:
                return op->Imm < 4096 ? by : -1;
            case Code.Shr_rm32_imm8 when (by & 31) >= 20:
                return (int)(uint.MaxValue >> by);
            case Code.Shr_rm64_imm8 when (by & 63) >= 52:
                return (int)(ulong.MaxValue >> by);
            default:
                return -1;
        }
    }

    /// <summary>Looks up the pages of all tables; <paramref name="fails"/>: where one does not lie in a page, or is not there. False: there are none.</summary>
    private bool EmitTableSetup(List<nint> fails)
    {
        fails.Clear();
        for (int s = 0; s < _streamCount; s++)
        {
            if (_streams[s].IsTable)
                EmitStreamSetup(s, fails);
        }

        return fails.Count > 0;
    }
}
