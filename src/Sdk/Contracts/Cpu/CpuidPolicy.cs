using VirtPS.X86;

namespace VirtPS.Sdk.Cpu;

/// <summary>One CPUID answer.</summary>
public readonly record struct CpuidResult(uint Eax, uint Ebx, uint Ecx, uint Edx);

/// <summary>
/// CPUID as a table: which leaf (and sub-leaf) answers what. Immutable after construction; unknown leaves answer as the highest basic leaf of an
/// Intel part would not: all zero, which every operating system accepts (AMD APM Vol. 3 appendix E).
/// </summary>
public sealed class CpuidPolicy
{
    private readonly Dictionary<(uint Leaf, uint SubLeaf), CpuidResult> _entries;

    public CpuidPolicy(IEnumerable<KeyValuePair<(uint Leaf, uint SubLeaf), CpuidResult>> entries) => _entries = new(entries);

    /// <summary>All entries, for backends that hand the table to hardware.</summary>
    public IReadOnlyDictionary<(uint Leaf, uint SubLeaf), CpuidResult> Entries => _entries;

    /// <summary>The answer; a leaf without sub-leaves is stored under sub-leaf 0 and answers any sub-leaf only if it is listed so.</summary>
    public CpuidResult Query(uint leaf, uint subLeaf) =>
        _entries.TryGetValue((leaf, subLeaf), out CpuidResult r) ? r : HasSubLeaves(leaf) ? default : _entries.GetValueOrDefault((leaf, 0u));

    /// <summary>A copy with one entry replaced or added.</summary>
    public CpuidPolicy With(uint leaf, uint subLeaf, CpuidResult result) =>
        new(new Dictionary<(uint, uint), CpuidResult>(_entries) { [(leaf, subLeaf)] = result });

    /// <summary>
    /// What a machine answers by itself of KVM's interface, for strategies whose backend leaves MSRs and hypercalls to it. Without asynchronous page faults (guest memory is always there)
    /// and poll control (nobody polls).
    /// </summary>
    public static KvmFeatures MachineKvmFeatures(int vcpuCount) =>
        KvmFeatures.NoIoDelay | KvmFeatures.Clock | KvmFeatures.ClockStable | KvmFeatures.StealTime | KvmFeatures.PvEoi
        | (vcpuCount > 1 ? KvmFeatures.PvUnhalt | KvmFeatures.PvTlbFlush | KvmFeatures.PvSendIpi | KvmFeatures.PvSchedYield : 0);

    /// <summary>The features of KVM's interface that this table offers; none where it does not show KVM's signature.</summary>
    public KvmFeatures KvmFeatures =>
        Query(KvmInterface.SignatureLeaf, 0) is { Ebx: KvmInterface.SignatureEbx, Ecx: KvmInterface.SignatureEcx, Edx: KvmInterface.SignatureEdx }
            ? (KvmFeatures)Query(KvmInterface.FeaturesLeaf, 0).Eax : KvmFeatures.None;

    /// <summary>A copy that says that the guest runs on KVM, in place of any other hypervisor's leaves.</summary>
    public CpuidPolicy WithKvm(KvmFeatures features)
    {
        var entries = _entries.Where(e => e.Key.Leaf is < KvmInterface.SignatureLeaf or >= 0x5000_0000).ToDictionary(e => e.Key, e => e.Value);
        entries[(KvmInterface.SignatureLeaf, 0)] = new CpuidResult(KvmInterface.FeaturesLeaf, KvmInterface.SignatureEbx, KvmInterface.SignatureEcx, KvmInterface.SignatureEdx);
        entries[(KvmInterface.FeaturesLeaf, 0)] = new CpuidResult((uint)features, 0, 0, 0);
        return new CpuidPolicy(entries);
    }

    /// <summary>Leaves whose answer depends on ECX (SDM Vol. 2A, CPUID).</summary>
    public static bool HasSubLeaves(uint leaf) =>
        leaf is 4 or 7 or 0xB or 0xD or 0xF or 0x10 or 0x12 or 0x14 or 0x17 or 0x18 or 0x1F or 0x8000001D;
}
