using VirtPS.Sdk.Cpu;

namespace VirtPS.Strategy.Para;

/// <summary>CPUID as Xen shows it to PV guests: without what only ring 0 can use, and with the hypervisor's own leaves (public/arch-x86/cpuid.h).</summary>
internal static class XenCpuid
{
    private const uint Base = 0x40000000;

    public static CpuidPolicy Restrict(CpuidPolicy model)
    {
        var t = new Dictionary<(uint, uint), CpuidResult>(model.Entries);
        CpuidResult one = t[(1, 0)];
        t[(1, 0)] = one with
        {
            // VME, PSE, MCE, APIC, SEP, MTRR, PGE, MCA, PSE36, DS, ACPI: 4 KiB pages only, no APIC.
            Edx = one.Edx & ~Bits(1, 3, 7, 9, 11, 12, 13, 14, 17, 21, 22),
            // MONITOR, VMX, PCID, x2APIC, TSC deadline; OSXSAVE is each processor's own answer.
            Ecx = (one.Ecx & ~Bits(3, 5, 17, 21, 24, 27)) | Bits(31),
        };
        // TSC_ADJUST, SMEP, INVPCID, SMAP, PKU, UMIP, LA57.
        CpuidResult seven = t.GetValueOrDefault((7u, 0u));
        t[(7, 0)] = seven with { Ebx = seven.Ebx & ~Bits(1, 7, 10, 20), Ecx = seven.Ecx & ~Bits(2, 3, 4, 16) };
        CpuidResult extended = t[(0x80000001, 0)];
        // VME, PSE, MCE, APIC, MTRR, PGE, MCA, PSE36, 1 GiB pages; topology extensions.
        t[(0x80000001, 0)] = extended with { Edx = extended.Edx & ~Bits(1, 3, 7, 9, 12, 13, 14, 17, 26), Ecx = extended.Ecx & ~Bits(22) };
        foreach ((uint Leaf, uint SubLeaf) key in t.Keys.Where(k => k.Item1 is 0xA or 0xB or 0x8000001D or 0x8000001E || k.Item1 >> 16 == 0x4000).ToArray())
            t.Remove(key);
        t[(Base, 0)] = new(Base + 5, 0x566E6558, 0x65584D4D, 0x4D4D566E);
        // Xen 4.17; one hypercall page's worth of nothing: this guest executes SYSCALL itself.
        t[(Base + 1, 0)] = new(0x0004_0011, 0, 0, 0);
        t[(Base + 2, 0)] = new(1, Base, 1, 0);
        t[(Base + 5, 0)] = default;
        return new CpuidPolicy(t);
    }

    private static uint Bits(params ReadOnlySpan<int> bits)
    {
        uint mask = 0;
        foreach (int bit in bits)
            mask |= 1u << bit;
        return mask;
    }
}
