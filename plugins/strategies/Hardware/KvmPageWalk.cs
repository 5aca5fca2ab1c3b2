using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// Linear to guest-physical addresses by reading the guest's page tables (SDM Vol. 3A chapter 4). KVM_TRANSLATE would do it too, but sets accessed bits, which a look
/// from outside must not.
/// </summary>
internal static unsafe class KvmPageWalk
{
    private const ulong AddressMask = 0x000F_FFFF_FFFF_F000;

    /// <summary>False when it is not mapped. Rights are not looked at: a supervisor read may go anywhere that is present.</summary>
    public static bool TryTranslate(KvmPartition partition, VcpuState* state, ulong linear, out ulong gpa)
    {
        gpa = linear;
        if ((state->Cr0 & Cr0.PG) == 0)
            return true;
        return (state->Cr4 & Cr4.PAE) == 0 ? TwoLevels(partition, state, (uint)linear, out gpa) : Long(partition, state, linear, out gpa);
    }

    private static bool TwoLevels(KvmPartition partition, VcpuState* state, uint linear, out ulong gpa)
    {
        gpa = 0;
        if (!TryRead(partition, (state->Cr3 & 0xFFFF_F000) + (linear >> 22) * 4, out uint directory) || (directory & PageBits.P) == 0)
            return false;
        if ((directory & PageBits.PS) != 0 && (state->Cr4 & Cr4.PSE) != 0)
        {
            // PSE-36: bits 20-13 of the entry are bits 39-32 of the address.
            gpa = (directory & 0xFFC0_0000) | (ulong)(directory >> 13 & 0xFF) << 32 | (linear & 0x3F_FFFF);
            return true;
        }

        if (!TryRead(partition, (directory & 0xFFFF_F000) + (linear >> 12 & 0x3FF) * 4, out uint entry) || (entry & PageBits.P) == 0)
            return false;
        gpa = (entry & 0xFFFF_F000) | (linear & 0xFFF);
        return true;
    }

    private static bool Long(KvmPartition partition, VcpuState* state, ulong linear, out ulong gpa)
    {
        gpa = 0;
        bool isLong = state->IsLongMode;
        int levels = !isLong ? 3 : (state->Cr4 & Cr4.LA57) != 0 ? 5 : 4;
        if (!isLong)
            linear = (uint)linear;
        else if ((ulong)((long)linear << (64 - (levels * 9 + 12)) >> (64 - (levels * 9 + 12))) != linear)
            return false;
        ulong table = isLong ? state->Cr3 & AddressMask : state->Cr3 & 0xFFFF_FFE0;
        for (int level = levels; ; level--)
        {
            int shift = 12 + (level - 1) * 9;
            if (!TryRead(partition, table + (linear >> shift & 0x1FF) * 8, out ulong entry) || (entry & PageBits.P) == 0)
                return false;
            if (level == 1 || (level <= 3 && (entry & PageBits.PS) != 0 && (isLong || level == 2)))
            {
                ulong inside = (1ul << shift) - 1;
                gpa = (entry & AddressMask & ~inside) | (linear & inside);
                return true;
            }

            table = entry & AddressMask;
        }
    }

    private static bool TryRead<T>(KvmPartition partition, ulong gpa, out T value) where T : unmanaged
    {
        value = default;
        return partition.TryRead(gpa, MemoryMarshal.AsBytes(new Span<T>(ref value)));
    }
}
