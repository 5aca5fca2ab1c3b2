using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

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

    private const uint Xsave = 0xD, Topology = 0xB;

    /// <summary>
    /// The table for a guest with <paramref name="vcpuCount"/> processors, one core each in one package; the leaves that describe the host's own topology go, and what needs
    /// XSAVE components that are not copied to a vCPU's state.
    /// </summary>
    /// <param name="supported">What the host can give.</param>
    /// <param name="vcpuCount">1–64.</param>
    /// <param name="features">What depends on the partition.</param>
    public static CpuidPolicy ForGuest(CpuidPolicy supported, int vcpuCount, GuestFeatures features)
    {
        bool x2Apic = features.HasFlag(GuestFeatures.X2Apic);
        var entries = new Dictionary<(uint Leaf, uint SubLeaf), CpuidResult>(supported.Entries);
        // Paravirtual leaves (0x40000000) belong to the Kvm enlightenment, added below; 14h is Intel PT, 1Dh and 1Eh AMX, 24h AVX10; 15h and 16h tell the host's
        // TSC frequency, which need not be the guest's.
        foreach ((uint Leaf, uint SubLeaf) key in entries.Keys.Where(k => k.Leaf is Topology or 0x14 or 0x15 or 0x16 or 0x19 or 0x1D or 0x1E or 0x1F or 0x24 or 0x8000001E or 0x80000026
            or (>= 0x4000_0000 and < 0x5000_0000)).ToList())
            entries.Remove(key);
        CpuidResult one = supported.Query(1, 0);
        // Leaf 1: logical processors in EBX 23:16; x2APIC, TSC deadline and the hypervisor bit are ours to give (ECX 21, 24, 31).
        entries[(1, 0)] = one with
        {
            Ebx = (one.Ebx & 0x0000_FFFF) | (uint)Math.Min(vcpuCount, 255) << 16,
            Ecx = ((one.Ecx | 1u << 31) & ~(1u << 21 | 1u << 24)) | (x2Apic ? 1u << 21 : 0) | (features.HasFlag(GuestFeatures.TscDeadline) ? 1u << 24 : 0),
            Edx = vcpuCount > 1 ? one.Edx | 1u << 28 : one.Edx & ~(1u << 28),
        };
        SetTopology(entries, vcpuCount, x2Apic);
        LimitToAvx(entries);
        var policy = new CpuidPolicy(entries);
        return features.HasFlag(GuestFeatures.Kvm) ? policy.WithKvm(Offered(supported, vcpuCount, features.HasFlag(GuestFeatures.OwnApic))) : policy;
    }

    /// <summary>
    /// Of what KVM offers, without asynchronous page faults (guest memory is the worker's, and is there) and memory encryption; what is answered by KVM's local APIC only where the guest
    /// has that.
    /// </summary>
    private static KvmFeatures Offered(CpuidPolicy supported, int vcpuCount, bool ownApic)
    {
        const KvmFeatures Never = KvmFeatures.OldClock | KvmFeatures.AsyncPageFault | KvmFeatures.AsyncPageFaultVmExit | KvmFeatures.AsyncPageFaultInterrupt | KvmFeatures.ExtendedDestination
            | KvmFeatures.MapGpaRange | KvmFeatures.MigrationControl;
        const KvmFeatures SeveralVcpus = KvmFeatures.PvUnhalt | KvmFeatures.PvSendIpi | KvmFeatures.PvSchedYield;
        KvmFeatures offered = (KvmFeatures)supported.Query(KvmInterface.FeaturesLeaf, 0).Eax & ~Never;
        if (!ownApic)
            offered &= ~(SeveralVcpus | KvmFeatures.PvEoi | KvmFeatures.PollControl);
        return vcpuCount > 1 ? offered : offered & ~SeveralVcpus;
    }

    /// <summary>SDM Vol. 2A, CPUID leaves 4 and 0Bh; AMD APM Vol. 3 appendix E, Fn8000_0001, Fn8000_0008, Fn8000_001D.</summary>
    private static void SetTopology(Dictionary<(uint Leaf, uint SubLeaf), CpuidResult> entries, int vcpuCount, bool x2Apic)
    {
        uint others = (uint)vcpuCount - 1;
        foreach ((uint Leaf, uint SubLeaf) key in entries.Keys.Where(k => k.Leaf is 4 or 0x8000001D).ToList())
        {
            // A cache of level 3 is everybody's, the others are their core's; bits 31:26 (cores in the package) are reserved in AMD's leaf.
            CpuidResult cache = entries[key];
            uint sharing = (cache.Eax >> 5 & 7) >= 3 ? others << 14 : 0;
            if ((cache.Eax & 0x1F) != 0)
                entries[key] = cache with { Eax = (cache.Eax & 0x3FFF) | sharing | (key.Leaf == 4 ? others << 26 : 0) };
        }

        // "Auth" of AuthenticAMD.
        bool isAmd = entries.TryGetValue((0, 0), out CpuidResult vendor) && vendor.Ebx == 0x6874_7541;
        if (entries.TryGetValue((0x80000008, 0), out CpuidResult sizes))
            entries[(0x80000008, 0)] = sizes with { Ecx = isAmd ? (sizes.Ecx & ~0xF0FFu) | others : sizes.Ecx };
        // TopologyExtensions (ECX 22) announces leaf 8000001Eh, CmpLegacy (ECX 1) several cores.
        const uint TopologyExtensions = 1u << 22, CmpLegacy = 1u << 1;
        if (isAmd && entries.TryGetValue((0x80000001, 0), out CpuidResult extended))
            entries[(0x80000001, 0)] = extended with { Ecx = (extended.Ecx & ~(TopologyExtensions | CmpLegacy)) | (vcpuCount > 1 ? CmpLegacy : 0) };
        if (!x2Apic || vendor.Eax < Topology)
            return;
        uint bits = (uint)(32 - System.Numerics.BitOperations.LeadingZeroCount(others));
        entries[(Topology, 0)] = new CpuidResult(0, 1, 1 << 8, 0);
        entries[(Topology, 1)] = new CpuidResult(bits, (uint)vcpuCount, 2 << 8 | 1, 0);
    }

    /// <summary>What is copied of a vCPU's state is x87, SSE and AVX (<see cref="VcpuState.AvxXsaveSize"/>; where AVX-512 stands depends on the processor's maker): AVX-512, AMX, protection keys, CET and MPX are not offered.</summary>
    private static void LimitToAvx(Dictionary<(uint Leaf, uint SubLeaf), CpuidResult> entries)
    {
        const uint Avx512Ebx = 1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30 | 1u << 31, Mpx = 1u << 14, ProcessorTrace = 1u << 25;
        const uint Avx512Ecx = 1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14, KeysAndShadowStacks = 1u << 3 | 1u << 4 | 1u << 7 | 1u << 31;
        const uint Avx512Edx = 1u << 2 | 1u << 3 | 1u << 8 | 1u << 23, AmxAndCet = 1u << 20 | 1u << 22 | 1u << 24 | 1u << 25;
        Mask(7, 0, uint.MaxValue, ~(Avx512Ebx | Mpx | ProcessorTrace), ~(Avx512Ecx | KeysAndShadowStacks), ~(Avx512Edx | AmxAndCet));
        // Sub-leaf 1: AVX512_BF16 and AMX-FP16; AMX-COMPLEX and AVX10.
        Mask(7, 1, ~(1u << 5 | 1u << 21), uint.MaxValue, uint.MaxValue, ~(1u << 8 | 1u << 19));
        if (!entries.TryGetValue((Xsave, 0), out CpuidResult main))
            return;
        uint components = main.Eax & (uint)(Xcr0.X87 | Xcr0.Sse | Xcr0.Avx);
        uint size = (components & (uint)Xcr0.Avx) != 0 ? VcpuState.AvxXsaveSize : (uint)VcpuState.YmmHighOffset;
        entries[(Xsave, 0)] = new CpuidResult(components, size, size, 0);
        // XSAVES and XFD have state of their own.
        Mask(Xsave, 1, ~(1u << 3 | 1u << 4), 0, 0, 0);
        foreach ((uint Leaf, uint SubLeaf) key in entries.Keys.Where(k => k.Leaf == Xsave && k.SubLeaf > 2).ToList())
            entries.Remove(key);

        void Mask(uint leaf, uint subLeaf, uint eax, uint ebx, uint ecx, uint edx)
        {
            if (entries.TryGetValue((leaf, subLeaf), out CpuidResult r))
                entries[(leaf, subLeaf)] = new CpuidResult(r.Eax & eax, r.Ebx & ebx, r.Ecx & ecx, r.Edx & edx);
        }
    }

    /// <summary>Gives a vCPU its table; only the APIC id differs between processors (leaf 1 EBX, leaf 0Bh EDX).</summary>
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
                    Eax = r.Eax, Ebx = ebx, Ecx = r.Ecx, Edx = leaf == Topology ? (uint)index : r.Edx,
                };
            }

            if (LinuxCalls.Ioctl(fd, Kvm.SetCpuid2, p) < 0)
                throw new VirtException("StrategyUnavailable", $"KVM refused the CPUID table: {LinuxCalls.ErrorText()}.");
        }
    }
}

/// <summary>What a guest's CPUID may show depending on its partition.</summary>
[Flags]
internal enum GuestFeatures
{
    None = 0,

    /// <summary>The local APICs' MSRs are answered.</summary>
    X2Apic = 1,

    /// <summary>So is IA32_TSC_DEADLINE.</summary>
    TscDeadline = 2,

    /// <summary>KVM's leaves.</summary>
    Kvm = 4,

    /// <summary>The local APICs are KVM's.</summary>
    OwnApic = 8,
}
