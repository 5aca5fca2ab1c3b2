using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Hardware.Tests;

/// <summary>What becomes of a host's CPUID table; needs no KVM.</summary>
public sealed class CpuidTests
{
    private const uint All = uint.MaxValue;

    /// <summary>A table of a processor that has everything.</summary>
    private static CpuidPolicy Everything { get; } = new(new Dictionary<(uint, uint), CpuidResult>
    {
        [(0, 0)] = new(0x20, 0x6874_7541, 0x444D_4163, 0x6974_6E65), [(1, 0)] = new(0x800F12, All, All, All), [(4, 0)] = new(0xFFFF_C121, 1, 2, 3),
        [(7, 0)] = new(2, All, All, All), [(7, 1)] = new(All, All, All, All), [(0xB, 0)] = new(1, 2, 0x100, 9), [(0xD, 0)] = new(All, 5000, 9000, All),
        [(0xD, 1)] = new(0x1F, 4000, All, All), [(0xD, 2)] = new(256, 576, 0, 0), [(0xD, 5)] = new(64, 1088, 0, 0), [(0x15, 0)] = new(1, 2, 3, 0),
        [(0x4000_0000, 0)] = new(1, 2, 3, 4), [(0x8000_0001, 0)] = new(0, 0, All, All), [(0x8000_0008, 0)] = new(0x3028, 0, 0x703F, 0), [(0x8000_001E, 0)] = new(1, 2, 3, 4),
    });

    /// <summary>What is not copied to a vCPU's state is not offered: or a saved guest would come back without it.</summary>
    [Fact]
    public void Only_components_that_the_state_holds_are_offered()
    {
        CpuidPolicy guest = KvmCpuid.ForGuest(Everything, 1, GuestFeatures.X2Apic);
        Assert.Equal(new CpuidResult(7, 832, 832, 0), guest.Query(0xD, 0));
        Assert.Equal(new CpuidResult(7, 0, 0, 0), guest.Query(0xD, 1));
        Assert.Equal(new CpuidResult(256, 576, 0, 0), guest.Query(0xD, 2));
        Assert.Equal(default, guest.Query(0xD, 5));
        CpuidResult seven = guest.Query(7, 0);
        Assert.Equal(0u, seven.Ebx & (1u << 16 | 1u << 14)); // AVX512F, MPX
        Assert.NotEqual(0u, seven.Ebx & 1u << 5);            // AVX2 stays
        Assert.Equal(0u, seven.Ecx & 1u << 3);               // PKU
        Assert.Equal(0u, seven.Edx & 1u << 24);              // AMX-TILE
    }

    [Theory]
    [InlineData(1, 0u)]
    [InlineData(2, 1u)]
    [InlineData(5, 3u)]
    public void The_topology_is_the_guests(int vcpus, uint idBits)
    {
        CpuidPolicy guest = KvmCpuid.ForGuest(Everything, vcpus, GuestFeatures.X2Apic);
        uint others = (uint)vcpus - 1;
        Assert.Equal((uint)vcpus, guest.Query(1, 0).Ebx >> 16 & 0xFF);
        Assert.Equal(vcpus > 1, (guest.Query(1, 0).Edx >> 28 & 1) != 0);
        Assert.Equal(new CpuidResult(0, 1, 0x100, 0), guest.Query(0xB, 0));
        Assert.Equal(new CpuidResult(idBits, (uint)vcpus, 0x201, 0), guest.Query(0xB, 1));
        Assert.Equal(others << 26 | 0x121, guest.Query(4, 0).Eax);
        Assert.Equal(others, guest.Query(0x8000_0008, 0).Ecx);
        Assert.Equal(0u, guest.Query(0x8000_0001, 0).Ecx & 1u << 22);
        Assert.Equal(default, guest.Query(0x8000_001E, 0));
        Assert.Equal(default, guest.Query(0x4000_0000, 0));
        Assert.Equal(default, guest.Query(0x15, 0));
    }

    /// <summary>The x2APIC's registers are MSRs: where KVM does not hand them on, it is not offered.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void X2apic_is_offered_where_its_msrs_reach_the_machine(bool x2Apic)
    {
        CpuidPolicy guest = KvmCpuid.ForGuest(Everything, 2, x2Apic ? GuestFeatures.X2Apic : GuestFeatures.None);
        Assert.Equal(x2Apic, (guest.Query(1, 0).Ecx >> 21 & 1) != 0);
        Assert.Equal(x2Apic, guest.Query(0xB, 1) != default);
        Assert.Equal(0u, guest.Query(1, 0).Ecx >> 24 & 1);
    }
}
