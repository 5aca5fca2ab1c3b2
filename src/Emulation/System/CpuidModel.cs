using System.Buffers.Binary;
using System.Numerics;
using System.Text;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// CPUID of the one modelled processor: AMD's vendor string and a Zen 5 signature, because for it kernels know of no flaw that needs page-table isolation, retpolines
/// or microcode, with exactly the features that the emulator implements on this host.
/// </summary>
public static unsafe class CpuidModel
{
    /// <summary>Family 1Ah, model 02h, stepping 1 (AMD APM Vol. 3, Fn0000_0001_EAX).</summary>
    private const uint Signature = 0x00B0_0F21;
    private const uint MaxBasic = 0xD, MaxExtended = 0x80000021, Hypervisor = 0x40000000;
    private const string Brand = "VirtPS virtual CPU";

    /// <summary>The table for <paramref name="vcpuCount"/> single-thread cores in one package.</summary>
    public static CpuidPolicy Create(int vcpuCount, HostFeatures host, CpuLevel level = CpuLevel.V4)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(vcpuCount);
        var t = new Dictionary<(uint Leaf, uint SubLeaf), CpuidResult>();
        AddIdentity(t, vcpuCount);
        AddFeatures(t, host, level);
        AddTopology(t, vcpuCount);
        AddCaches(t, vcpuCount);
        AddSaveArea(t);
        return new CpuidPolicy(t);
    }

    /// <summary>A processor's own answer: APIC id, OSXSAVE, the save area's present size, the width of physical addresses.</summary>
    internal static CpuidResult Complete(PartitionOptions options, uint leaf, uint subLeaf, VcpuState* state, int index)
    {
        CpuidResult r = options.Cpuid.Query(leaf, subLeaf);
        switch (leaf)
        {
            case 1:
                uint osxsave = (state->Cr4 & Cr4.OSXSAVE) != 0 ? 1u << 27 : 0;
                return r with { Ebx = (r.Ebx & 0x00FF_FFFF) | (uint)index << 24, Ecx = (r.Ecx & ~(1u << 27)) | osxsave };
            case 0xB:
                return r with { Ecx = (r.Ecx & ~0xFFu) | (subLeaf & 0xFF), Edx = (uint)index };
            case 0xD when subLeaf == 0 && r.Eax != 0:
                return r with { Ebx = AreaSize(state->Xcr0) };
            case 0x80000008:
                return r with { Eax = (r.Eax & ~0xFFu) | (uint)options.PhysicalAddressBits };
            case 0x8000001E:
                return r with { Eax = (uint)index, Ebx = (uint)index };
            default:
                return r;
        }
    }

    private static uint Text(string s, int at) => BinaryPrimitives.ReadUInt32LittleEndian(Encoding.ASCII.GetBytes(s.PadRight(48, '\0'), at, 4));

    private static void AddIdentity(Dictionary<(uint, uint), CpuidResult> t, int count)
    {
        const string vendor = "AuthenticAMD", signature = "VirtPSVirtPS";
        // The vendor string runs EBX, EDX, ECX; a hypervisor's EBX, ECX, EDX.
        t[(0, 0)] = new(MaxBasic, Text(vendor, 0), Text(vendor, 8), Text(vendor, 4));
        t[(0x80000000, 0)] = new(MaxExtended, Text(vendor, 0), Text(vendor, 8), Text(vendor, 4));
        t[(Hypervisor, 0)] = new(Hypervisor, Text(signature, 0), Text(signature, 4), Text(signature, 8));
        t[(1, 0)] = new(Signature, 8 << 8 | (uint)count << 16, 0, count > 1 ? 1u << 28 : 0);
        t[(0x80000001, 0)] = new(Signature, 0, count > 1 ? 1u << 1 : 0, 0);
        for (uint i = 0; i < 3; i++)
        {
            int at = (int)i * 16;
            t[(0x80000002 + i, 0)] = new(Text(Brand, at), Text(Brand, at + 4), Text(Brand, at + 8), Text(Brand, at + 12));
        }
    }

    private static void AddFeatures(Dictionary<(uint, uint), CpuidResult> t, HostFeatures host, CpuLevel level)
    {
        foreach (CpuidFeatureBit f in CpuidFeatures.All)
        {
            if (f.Level > level || f.Needs?.Invoke(host) == false)
                continue;
            CpuidResult r = t.GetValueOrDefault((f.Leaf, f.SubLeaf));
            uint bit = 1u << f.Bit;
            t[(f.Leaf, f.SubLeaf)] = f.Register switch
            {
                CpuidRegister.Eax => r with { Eax = r.Eax | bit },
                CpuidRegister.Ebx => r with { Ebx = r.Ebx | bit },
                CpuidRegister.Ecx => r with { Ecx = r.Ecx | bit },
                _ => r with { Edx = r.Edx | bit },
            };
        }

        // Leaf 7 says itself how many sub-leaves it has.
        if (t.ContainsKey((7, 1)))
            t[(7, 0)] = t[(7, 0)] with { Eax = 1 };
    }

    private static void AddTopology(Dictionary<(uint, uint), CpuidResult> t, int count)
    {
        var width = (uint)BitOperations.Log2(BitOperations.RoundUpToPowerOf2((uint)count));
        t[(0xB, 0)] = new(0, 1, 1 << 8, 0);
        t[(0xB, 1)] = new(width, (uint)count, 2 << 8 | 1, 0);
        CpuidResult sizes = t.GetValueOrDefault((0x80000008u, 0u));
        t[(0x80000008, 0)] = sizes with { Eax = 48 << 8, Ecx = (uint)(count - 1) | width << 12 };
        t[(0x8000001E, 0)] = default;
    }

    /// <summary>Sizes of the silicon whose signature we carry; they guide a kernel's scheduling and nothing else.</summary>
    private static void AddCaches(Dictionary<(uint, uint), CpuidResult> t, int count)
    {
        t[(0x80000005, 0)] = new(0xFF48_FF40, 0xFF60_FF40, 48u << 24 | 12 << 16 | 1 << 8 | 64, 32u << 24 | 8 << 16 | 1 << 8 | 64);
        t[(0x80000006, 0)] = new(0x5C00_2200, 0x6C00_4200, 1024u << 16 | 8 << 12 | 1 << 8 | 64, 64u << 18 | 8 << 12 | 1 << 8 | 64);
        t[(0x8000001D, 0)] = Cache(type: 1, level: 1, sharing: 1, ways: 12, sets: 64);
        t[(0x8000001D, 1)] = Cache(type: 2, level: 1, sharing: 1, ways: 8, sets: 64);
        t[(0x8000001D, 2)] = Cache(type: 3, level: 2, sharing: 1, ways: 16, sets: 1024);
        t[(0x8000001D, 3)] = Cache(type: 3, level: 3, sharing: count, ways: 16, sets: 32768);
    }

    private static CpuidResult Cache(uint type, uint level, int sharing, uint ways, uint sets) =>
        new(type | level << 5 | 1 << 8 | (uint)(sharing - 1) << 14, 63 | (ways - 1) << 22, sets - 1, 0);

    /// <summary>Components behind the header, in the order of their places (SDM Vol. 1 §13.4.3).</summary>
    private static readonly (uint Number, uint Size, uint Offset)[] s_extended =
    [
        (2, 256, VcpuState.YmmHighOffset), (5, 64, VcpuState.OpmaskOffset), (6, 512, VcpuState.ZmmHighOffset), (7, 1024, VcpuState.HighZmmOffset),
    ];

    /// <summary>Leaf 0Dh: x87, SSE and, where offered, AVX and AVX-512 in the standard format (SDM Vol. 1 §13.2).</summary>
    private static void AddSaveArea(Dictionary<(uint, uint), CpuidResult> t)
    {
        uint features = t[(1, 0)].Ecx;
        if ((features & (1u << 26)) == 0)
            return;
        ulong components = Xcr0.X87 | Xcr0.Sse;
        if ((features & (1u << 28)) != 0)
            components |= Xcr0.Avx;
        if ((t[(7, 0)].Ebx & (1u << 16)) != 0)
            components |= Xcr0.Avx512;
        t[(0xD, 0)] = new((uint)components, AreaSize(Xcr0.X87), AreaSize(components), 0);
        // XSAVEOPT; neither XSAVEC nor XSAVES nor XGETBV with ECX = 1.
        t[(0xD, 1)] = new(1, 0, 0, 0);
        foreach ((uint number, uint size, uint offset) in s_extended)
        {
            if ((components & 1ul << (int)number) != 0)
                t[(0xD, number)] = new(size, offset, 0, 0);
        }
    }

    /// <summary>What the area takes with these components: the standard format ends behind the last of them, and has room for those before it.</summary>
    private static uint AreaSize(ulong components)
    {
        // Legacy area and header.
        uint end = VcpuState.YmmHighOffset;
        foreach ((uint number, uint size, uint offset) in s_extended)
        {
            if ((components & 1ul << (int)number) != 0)
                end = offset + size;
        }

        return end;
    }
}
