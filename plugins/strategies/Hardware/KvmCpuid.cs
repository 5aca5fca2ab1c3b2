using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Strategy.Hardware;

/// <summary>CPUID tables to and from KVM.</summary>
internal static unsafe class KvmCpuid
{
    private const int MaxEntries = 256;

    /// <summary>What the host's processor and KVM can give a guest (KVM_GET_SUPPORTED_CPUID).</summary>
    public static CpuidPolicy Supported(KvmDevice device)
    {
        byte[] block = new byte[8 + MaxEntries * sizeof(KvmCpuidEntry2)];
        fixed (byte* p = block)
        {
            *(uint*)p = MaxEntries;
            KvmDevice.Must(LinuxCalls.Ioctl(device.Fd, Kvm.GetSupportedCpuid, p), "the supported CPUID table");
            var entries = new Dictionary<(uint, uint), CpuidResult>();
            var list = (KvmCpuidEntry2*)(p + 8);
            for (uint i = 0; i < *(uint*)p; i++)
                entries[(list[i].Function, list[i].Index)] = new CpuidResult(list[i].Eax, list[i].Ebx, list[i].Ecx, list[i].Edx);
            return new CpuidPolicy(entries);
        }
    }

    /// <summary>The table for a guest with <paramref name="vcpuCount"/> processors, one core each in one package; the leaves that describe the host's own topology go.</summary>
    public static CpuidPolicy ForGuest(CpuidPolicy supported, int vcpuCount)
    {
        var entries = new Dictionary<(uint Leaf, uint SubLeaf), CpuidResult>(supported.Entries);
        CpuidResult one = supported.Query(1, 0);
        // Leaf 1: logical processors in EBX 23:16; x2APIC, TSC deadline and the hypervisor bit are the machine's to give (ECX 21, 24, 31).
        entries[(1, 0)] = one with
        {
            Ebx = (one.Ebx & 0x0000_FFFF) | (uint)Math.Min(vcpuCount, 255) << 16,
            Ecx = (one.Ecx | 1u << 31) & ~(1u << 21 | 1u << 24),
            Edx = vcpuCount > 1 ? one.Edx | 1u << 28 : one.Edx & ~(1u << 28),
        };
        foreach ((uint Leaf, uint SubLeaf) key in entries.Keys.Where(k => k.Leaf is 0xB or 0x1F or 0x8000001E or 0x80000026).ToList())
            entries.Remove(key);
        // Paravirtual leaves belong to the Kvm enlightenment, which is not offered here.
        foreach ((uint Leaf, uint SubLeaf) key in entries.Keys.Where(k => k.Leaf is >= 0x4000_0000 and < 0x5000_0000).ToList())
            entries.Remove(key);
        return new CpuidPolicy(entries);
    }

    /// <summary>Gives a vCPU its table; only the APIC id differs between processors.</summary>
    public static void Apply(int fd, CpuidPolicy policy, int index)
    {
        int count = Math.Min(policy.Entries.Count, MaxEntries);
        byte[] block = new byte[8 + count * sizeof(KvmCpuidEntry2)];
        fixed (byte* p = block)
        {
            *(uint*)p = (uint)count;
            var list = (KvmCpuidEntry2*)(p + 8);
            int i = 0;
            foreach (((uint leaf, uint subLeaf), CpuidResult r) in policy.Entries.OrderBy(e => e.Key).Take(count))
            {
                uint ebx = leaf == 1 ? (r.Ebx & 0x00FF_FFFF) | (uint)index << 24 : r.Ebx;
                list[i++] = new KvmCpuidEntry2
                {
                    Function = leaf, Index = subLeaf, Flags = CpuidPolicy.HasSubLeaves(leaf) ? KvmCpuidEntry2.SignificantIndex : 0,
                    Eax = r.Eax, Ebx = ebx, Ecx = r.Ecx, Edx = r.Edx,
                };
            }

            if (LinuxCalls.Ioctl(fd, Kvm.SetCpuid2, p) < 0)
                throw new VirtException("StrategyUnavailable", $"KVM refused the CPUID table: {LinuxCalls.ErrorText()}.");
        }
    }
}
