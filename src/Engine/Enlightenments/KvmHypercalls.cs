using VirtPS.Sdk.Interrupts;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>KVM's hypercalls (Documentation/virt/kvm/x86/hypercalls.rst); only those whose feature CPUID offers.</summary>
internal static class KvmHypercalls
{
    /// <summary>ICR bits that a hypercall must not set: logical destination, shorthand (SDM Vol. 3A figure 10-12).</summary>
    private const ulong DestinationAndShorthand = 1 << 11 | 3 << 18;

    /// <summary>The result for RAX. From ring 0.</summary>
    public static long Call(KvmEnlightenment machine, ulong number, ulong first, ulong second, ulong third, ulong fourth, bool is64Bit)
    {
        switch (number)
        {
            case KvmInterface.VapicPollIrq:
                // Leaving guest code is what looks for interrupts.
                return 0;
            case KvmInterface.KickCpu when machine.Has(KvmFeatures.PvUnhalt):
                machine.Kick(Id(second));
                return 0;
            case KvmInterface.ClockPairing when machine.Has(KvmFeatures.Clock):
                // Pairs the TSC with the host's date, which is no machine's date here.
                return -KvmInterface.NotSupported;
            case KvmInterface.SendIpi when machine.Has(KvmFeatures.PvSendIpi):
                return SendIpi(machine, first, second, third, fourth, is64Bit ? 64 : 32);
            case KvmInterface.SchedYield when machine.Has(KvmFeatures.PvSchedYield):
                // To any thread that waits, the other vCPU's among them.
                Thread.Yield();
                return 0;
            default:
                return -KvmInterface.NoSuchCall;
        }
    }

    private static uint Id(ulong apicId) => apicId > uint.MaxValue ? uint.MaxValue : (uint)apicId;

    /// <summary>One interrupt for each bit of two words, counted from the APIC id <paramref name="lowest"/>; gives the number of those that were sent.</summary>
    private static long SendIpi(KvmEnlightenment machine, ulong low, ulong high, ulong lowest, ulong icr, int wordBits)
    {
        var mode = (DeliveryMode)(icr >> 8 & 7);
        if ((icr & DestinationAndShorthand) != 0 || mode is not (DeliveryMode.Fixed or DeliveryMode.Nmi))
            return -KvmInterface.InvalidArgument;
        long sent = 0;
        for (int word = 0; word < 2; word++)
        {
            for (ulong bits = word == 0 ? low : high; bits != 0; bits &= bits - 1)
            {
                ulong id = lowest + (ulong)(word * wordBits + System.Numerics.BitOperations.TrailingZeroCount(bits));
                if (id < lowest || !machine.TryFind(Id(id), out KvmVcpu? vcpu))
                    continue;
                vcpu.LocalApic!.Post(mode, (byte)icr, level: false);
                sent++;
            }
        }

        return sent;
    }
}
