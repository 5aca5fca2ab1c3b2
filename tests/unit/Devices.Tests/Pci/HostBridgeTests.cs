using VirtPS.Device.PciHost;
using VirtPS.Sdk;

namespace VirtPS.Devices.Tests.Pci;

public sealed class HostBridgeTests : PciFixture
{
    private IPciBus Bus => M.Provided<IPciBus>();

    [Fact]
    public void The_bridge_is_device_0_and_everything_else_aborts()
    {
        Assert.Equal(0x0D57_8086u, Read(0, 0));
        Assert.Equal(0x0600_0000u, Read(0, 8));
        Assert.Equal(uint.MaxValue, Read(1, 0));
        Assert.Equal(uint.MaxValue, Read(0, 0, function: 1));
        Assert.Equal(uint.MaxValue, Read(0, 0, bus: 1));
        Assert.Equal(0x0D57u, Read(0, 2, 2));
        Assert.Equal(0x0Du, Read(0, 3, 1));
        M.Out(0xCF8, 0, 4);
        Assert.Equal(uint.MaxValue, M.In(0xCFC, 4));
    }

    [Fact]
    public void CONFIG_ADDRESS_takes_double_words_only_and_keeps_its_reserved_bits_zero()
    {
        M.Out(0xCF8, uint.MaxValue, 4);
        Assert.Equal(0x80FF_FFFCu, M.In(0xCF8, 4));
        M.Out(0xCF8, 0, 2);
        M.Out(0xCF8, 0, 1);
        Assert.Equal(0x80FF_FFFCu, M.In(0xCF8, 4));
    }

    [Fact]
    public void A_byte_to_CF9_resets_on_the_rising_edge_of_bit_2()
    {
        M.Out(0xCF9, 0x02);
        Assert.Empty(Control.Requests);
        Assert.Equal(0x02u, M.In(0xCF9));
        M.Out(0xCF9, 0x06);
        M.Out(0xCF9, 0x06);
        Assert.Single(Control.Requests);
    }

    [Fact]
    public void Functions_come_and_go()
    {
        using SamplePciDevice first = new(M), second = new(M, device: 5), third = new(M, device: 5, function: 2);
        Assert.Equal(1, first.Pci.DeviceNumber);
        Assert.Equal(0x0042_1B36u, Read(5, 0));
        Assert.Equal((0x00u, 0x80u), (Read(1, 0x0E, 1), Read(5, 0x0E, 1)));
        Assert.Equal(0x0042_1B36u, Read(5, 0, function: 2));
        third.Dispose();
        Assert.Equal((uint.MaxValue, 0u), (Read(5, 0, function: 2), Read(5, 0x0E, 1)));
        Assert.Equal("DeviceConflict", Assert.Throws<VirtException>(() => new SamplePciDevice(M, device: 5)).ErrorId);
        Assert.Equal("DevicePropertyInvalid", Assert.Throws<VirtException>(() => new SamplePciDevice(M, device: 32)).ErrorId);
    }

    [Fact]
    public void The_bus_says_when_it_is_full()
    {
        for (int i = 1; i < 32; i++)
            Assert.Equal(i, new SamplePciDevice(M).Pci.DeviceNumber);
        Assert.Equal("DeviceConflict", Assert.Throws<VirtException>(() => new SamplePciDevice(M)).ErrorId);
    }

    [Fact]
    public void Pins_are_swizzled_over_four_interrupts_and_shared()
    {
        VirtPS.Sdk.Interrupts.InterruptLine a = Bus.GetPin(1, 0), b = Bus.GetPin(4, 1);
        a.Set(true);
        Assert.True(M.Gsi(17).Level);
        b.Set(true);
        a.Set(false);
        Assert.True(M.Gsi(17).Level);
        b.Set(false);
        Assert.False(M.Gsi(17).Level);
        Bus.GetPin(3, 3).Set(true);
        Assert.True(M.Gsi(18).Level);
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => RecordingMachineControl.NewMachine().Machine,
        m => Make.Device<PciHostPlugin>(m),
        m =>
        {
            Write(m, 0, 0x04, 0x0106, 2);
            Write(m, 0, 0x3C, 0x0B, 1);
            m.Out(0xCF9, 0x02);
            m.Out(0xCF8, 0x8000_003C, 4);
        },
        m =>
        {
            m.In(0xCF8, 4);
            m.In(0xCFC, 4);
            m.In(0xCF9);
            Read(m, 0, 0x04);
            m.Out(0xCF9, 0x06);
        });
}
