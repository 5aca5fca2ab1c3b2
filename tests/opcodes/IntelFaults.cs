using Iced.Intel;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>
/// What Intel's processors leave behind of an instruction that faults where AMD's, and with them the emulator, leave something else. Each was found by comparing on a Xeon of the fourth generation; the manuals
/// allow both.
/// </summary>
internal static unsafe class IntelFaults
{
    private const uint MxcsrFlags = 0x3F;

    /// <summary>Makes the guest's outcome what Intel's processors would show; what comes back are the flags that cannot be compared.</summary>
    /// <param name="i">The instruction that faulted on the host.</param>
    public static ulong Adapt(in Outcome native, ref Outcome guest, in Instruction i)
    {
        if (native.Vector is not (Vector.PF or Vector.GP or Vector.XM))
            return 0;
        bool stores = i.OpCount > 1 && i.Op0Kind == OpKind.Memory;
        if (i.Mnemonic == Mnemonic.Vcvtps2ph && stores)
            ConversionFirst(native, ref guest);
        else if (stores && i.Op1Kind == OpKind.Register && i.Op1Register.IsMM() && native.Vector == guest.Vector)
            ResetTop(ref guest.Image);
        // The address is that of the first element that is stored in the page; AMD's say where the page begins.
        if (stores && i.HasOpMask && native.Vector == Vector.PF && guest.Vector == Vector.PF && (native.Cr2 ^ guest.Cr2) < (ulong)Layout.Page)
            guest.Cr2 = native.Cr2;
        return IsRepeatedComparison(i) ? Rflags.Status : 0;
    }

    // SDM Vol. 2B, REP: a fault within gives back the flags from before the instruction. Those of the last comparison stand there with AMD.
    private static bool IsRepeatedComparison(in Instruction i) => (i.HasRepePrefix || i.HasRepnePrefix) && i.Mnemonic is Mnemonic.Cmpsb or Mnemonic.Cmpsw or Mnemonic.Cmpsd or Mnemonic.Cmpsq
        or Mnemonic.Scasb or Mnemonic.Scasw or Mnemonic.Scasd or Mnemonic.Scasq;

    // The conversion is done, its flags are set and its exceptions are raised before the store is tried.
    private static void ConversionFirst(in Outcome native, ref Outcome guest)
    {
        guest.Image.Mxcsr = guest.Image.Mxcsr & ~MxcsrFlags | native.Image.Mxcsr & MxcsrFlags;
        if (native.Vector == Vector.XM && guest.Vector is Vector.PF or Vector.GP)
            (guest.Vector, guest.Error, guest.Cr2) = (native.Vector, native.Error, native.Cr2);
    }

    // The top of the stack has become 0, as MMX instructions make it, before the store is tried; the tags have not changed yet.
    private static void ResetTop(ref MachineImage image)
    {
        const int slot = 16, registers = 8;
        fixed (byte* x = image.Xsave)
        {
            ref ushort status = ref *(ushort*)(x + 2);
            int top = status >> 11 & 7;
            status &= unchecked((ushort)~0x3800);
            byte* st = stackalloc byte[slot * registers];
            Buffer.MemoryCopy(x + 32, st, slot * registers, slot * registers);
            for (int n = 0; n < registers; n++)
                Buffer.MemoryCopy(st + (slot * (n - top & 7)), x + 32 + (slot * n), slot, slot);
        }
    }
}
