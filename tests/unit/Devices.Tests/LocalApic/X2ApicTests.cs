using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.LocalApic;

public sealed class X2ApicTests : ApicFixture
{
    public X2ApicTests() : base(index: 0x25) => EnterX2Apic();

    [Fact]
    public void Ids_are_32_bits_and_the_logical_one_is_derived()
    {
        Assert.Equal(0x25ul, Rdmsr(0x802));
        Assert.Equal(0x0002_0020ul, Rdmsr(0x80D));
        Assert.True(Apic.MatchesDestination(0x25, logical: false));
        Assert.True(Apic.MatchesDestination(uint.MaxValue, logical: false));
        Assert.False(Apic.MatchesDestination(0xFF, logical: false));
        Assert.True(Apic.MatchesDestination(0x0002_0021, logical: true));
        Assert.False(Apic.MatchesDestination(0x0001_0020, logical: true));
    }

    [Fact]
    public void The_page_is_gone_and_the_MSRs_are_there_only_in_this_mode()
    {
        Assert.Equal(uint.MaxValue, Apic.ReadRegister(Svr));
        Assert.Equal(0x1FFul, Rdmsr(0x80F));
        (_, _, ILocalApic xapic) = NewApic(1);
        Assert.False(xapic.ReadMsr(0x80F, out _));
    }

    [Fact]
    public void ICR_is_one_64_bit_register()
    {
        Wrmsr(0x830, 0x0000_0123_0000_4040);
        Assert.Equal(["IPI Fixed 40 to 123 physical None"], Host.Events);
        Assert.Equal(0x0000_0123_0000_4040ul, Rdmsr(0x830));
    }

    [Fact]
    public void Self_IPI_needs_no_bus()
    {
        Wrmsr(0x83F, 0x45);
        Assert.Equal(0x45, Apic.Acknowledge());
        Wrmsr(0x80B, 0);
        Assert.False(Apic.HasInterrupt);
    }

    [Theory]
    [InlineData(0x802u, 1ul)]
    [InlineData(0x80Eu, 0ul)]
    [InlineData(0x831u, 0ul)]
    [InlineData(0x80Bu, 1ul)]
    [InlineData(0x828u, 1ul)]
    [InlineData(0x808u, 0x100ul)]
    [InlineData(0x80Fu, 0x1_0000_0000ul)]
    [InlineData(0x832u, 0x8000_0000ul)]
    [InlineData(0x83Eu, 4ul)]
    [InlineData(0x830u, 0x2000ul)]
    [InlineData(0x8FFu, 0ul)]
    public void Reserved_bits_and_registers_fault_on_write(uint msr, ulong value) => Assert.False(Apic.WriteMsr(msr, value));

    [Theory]
    [InlineData(0x80Bu)]
    [InlineData(0x809u)]
    [InlineData(0x80Eu)]
    [InlineData(0x831u)]
    [InlineData(0x83Fu)]
    [InlineData(0x800u)]
    public void Registers_that_cannot_be_read_fault(uint msr) => Assert.False(Apic.ReadMsr(msr, out _));

    [Fact]
    public void Only_the_manual_s_mode_transitions_are_allowed()
    {
        ulong id = 0xFEE0_0000;
        Assert.False(Apic.WriteMsr(ApicBaseMsr, id | 0x800));
        Assert.False(Apic.WriteMsr(ApicBaseMsr, id | 0x400));
        Assert.True(Apic.WriteMsr(ApicBaseMsr, id));
        Assert.False(Apic.WriteMsr(ApicBaseMsr, id | 0xC00));
        Assert.True(Apic.WriteMsr(ApicBaseMsr, id | 0x800));
        Assert.False(Apic.WriteMsr(ApicBaseMsr, id | 0x801));
        Assert.True(Apic.WriteMsr(ApicBaseMsr, id | 0xC00));
    }

    [Fact]
    public void INIT_keeps_the_mode_and_the_ids()
    {
        Deliver(0, mode: DeliveryMode.Init);
        Assert.Equal(0x0002_0020ul, Rdmsr(0x80D));
        Assert.Equal(0xFFul, Rdmsr(0x80F));
    }
}
