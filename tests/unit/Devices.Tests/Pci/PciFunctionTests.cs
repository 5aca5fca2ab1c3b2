using VirtPS.Sdk;
using VirtPS.Sdk.Devices.Pci;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.Pci;

public sealed class PciFunctionTests : PciFixture, IDisposable
{
    private readonly SamplePciDevice _d;

    public PciFunctionTests() => _d = new SamplePciDevice(M);

    public void Dispose() => _d.Dispose();

    private TestLine Irq => M.Gsi(18);

    private int MsiOffset => FindCapability(M, 1, 0x05);

    private int MsiXOffset => FindCapability(M, 1, 0x11);

    private void Enable(ushort command) => Write(1, 0x04, command, 2);

    [Fact]
    public void The_header_is_the_identity_s()
    {
        Assert.Equal(0x0042_1B36u, Read(1, 0));
        Assert.Equal(0xFF00_0103u, Read(1, 8));
        Assert.Equal(0x1100_1AF4u, Read(1, 0x2C));
        Assert.Equal(0x0200u, Read(1, 0x3C, 2));
        Write(1, 0, 0xFFFF_FFFF);
        Write(1, 0x2C, 0);
        Write(1, 0x3C, 0x0105, 2);
        Assert.Equal((0x0042_1B36u, 0x1100_1AF4u, 0x0205u), (Read(1, 0), Read(1, 0x2C), Read(1, 0x3C, 2)));
        Write(1, 0x04, 0xFFFF_FFFF);
        Assert.Equal(0x0010_0547u, Read(1, 0x04));
    }

    [Fact]
    public void BARs_tell_their_size()
    {
        for (int bar = 0x10; bar < 0x28; bar += 4)
            Write(1, bar, 0xFFFF_FFFF);
        Assert.Equal(
            [0xFFFF_E00Cu, 0xFFFF_FFFFu, 0x0000_FFE1u, 0u, 0xFFFF_E000u, 0u],
            Enumerable.Range(4, 6).Select(i => Read(1, i * 4)));
    }

    [Fact]
    public void A_memory_BAR_answers_only_while_enabled_and_moves()
    {
        Write(1, 0x10, 0xD000_0000);
        Write(1, 0x14, 0x0000_0001);
        Assert.Equal(uint.MaxValue, M.ReadMmio(0x1_D000_0000, 4));
        Enable(2);
        Assert.Equal(0x1FF8u, M.ReadMmio(0x1_D000_1FF8, 4));
        Assert.Equal(uint.MaxValue, M.ReadMmio(0x1_D000_2000, 4));
        Write(1, 0x14, 2);
        Assert.Equal((uint.MaxValue, 0ul), (M.ReadMmio(0x1_D000_0000, 4), M.ReadMmio(0x2_D000_0000, 4)));
        Enable(0);
        Assert.Equal(uint.MaxValue, M.ReadMmio(0x2_D000_0000, 4));
    }

    [Fact]
    public void An_IO_BAR_answers_only_while_enabled()
    {
        Write(1, 0x18, 0xC000);
        Enable(1);
        M.Out(0xC01C, 0x1234_5678, 4);
        Assert.Equal(0x1234_5678u, M.In(0xC000, 4));
        Assert.Equal(0xC001u, Read(1, 0x18));
        Enable(2);
        Assert.Equal(uint.MaxValue, M.In(0xC000, 4));
    }

    [Fact]
    public void Sizing_with_decoding_on_and_overlapping_addresses_do_no_harm()
    {
        using SamplePciDevice other = new(M);
        Write(2, 0x10, 0xD000_0000);
        Write(2, 0x04, 2, 2);
        Enable(3);
        Write(1, 0x10, 0xFFFF_FFFF);
        Write(1, 0x18, 0xFFFF_FFFF);
        Write(1, 0x10, 0xD000_0000);
        Assert.Null(_d.Pci.Bars[0]!.Address);
        M.WriteMmio(0xD000_0000, 4, 7);
        Assert.Equal(7u, M.ReadMmio(0xD000_0000, 4));
        Write(1, 0x10, 0xD000_2000);
        Assert.Equal(0xD000_2000ul, _d.Pci.Bars[0]!.Address);
    }

    [Fact]
    public void INTx_follows_level_status_and_the_disable_bit()
    {
        _d.Pci.SetInterrupt(true);
        Assert.True(Irq.Level);
        Assert.Equal(0x0018u, Read(1, 0x06, 2));
        Enable(0x400);
        Assert.False(Irq.Level);
        Assert.Equal(0x0018u, Read(1, 0x06, 2));
        Enable(0);
        Assert.True(Irq.Level);
        _d.Pci.SetInterrupt(false);
        Assert.False(Irq.Level);
    }

    [Fact]
    public void MSI_sends_address_and_data_with_the_vector_in_the_low_bits()
    {
        Assert.Equal(0x0184u, Read(1, MsiOffset + 2, 2));
        Write(1, MsiOffset + 4, 0xFEE0_1003);
        Write(1, MsiOffset + 8, 0);
        Write(1, MsiOffset + 12, 0x4043, 2);
        _d.Msi.Signal(0);
        Assert.Empty(M.SentMsis);
        Write(1, MsiOffset + 2, 0x0021, 2);
        _d.Msi.Signal(1);
        Assert.Empty(M.SentMsis);
        Enable(4);
        _d.Msi.Signal(1);
        _d.Msi.Signal(2);
        _d.Msi.Signal(3);
        Assert.Equal([new MsiMessage(0xFEE0_1000, 0x4041), new MsiMessage(0xFEE0_1000, 0x4042), new MsiMessage(0xFEE0_1000, 0x4043)], M.SentMsis);
        Write(1, MsiOffset + 2, 0x0001, 2);
        _d.Msi.Signal(3);
        Assert.Equal(0x4043u, M.SentMsis[^1].Data);
    }

    [Fact]
    public void A_masked_MSI_vector_is_pending_until_unmasked()
    {
        Enable(4);
        Write(1, MsiOffset + 2, 0x0021, 2);
        Write(1, MsiOffset + 16, 0x2);
        _d.Msi.Signal(1);
        Assert.Empty(M.SentMsis);
        Assert.Equal(2u, Read(1, MsiOffset + 20));
        Write(1, MsiOffset + 16, 0);
        Assert.Equal(1u, Assert.Single(M.SentMsis).Data);
        Assert.Equal(0u, Read(1, MsiOffset + 20));
    }

    [Fact]
    public void MSI_X_masks_by_vector_and_by_function()
    {
        const ulong table = 0xD001_0000;
        Assert.Equal(69u, Read(1, MsiXOffset + 2, 2));
        Assert.Equal((4u, 0x1004u), (Read(1, MsiXOffset + 4), Read(1, MsiXOffset + 8)));
        Write(1, 0x20, (uint)table);
        Enable(6);
        M.WriteMmio(table + (65 * 16), 8, 0xFEE0_2000);
        M.WriteMmio(table + (65 * 16) + 8, 4, 0x51);
        Write(1, MsiXOffset + 2, 0x8000, 2);
        _d.MsiX.Signal(65);
        Assert.Empty(M.SentMsis);
        Assert.Equal(2ul, M.ReadMmio(table + 0x1008, 8));
        M.WriteMmio(table + (65 * 16) + 12, 4, 0);
        Assert.Equal([new MsiMessage(0xFEE0_2000, 0x51)], M.SentMsis);
        Assert.Equal(0ul, M.ReadMmio(table + 0x1008, 8));
        Write(1, MsiXOffset + 2, 0xC000, 2);
        _d.MsiX.Signal(65);
        Assert.Single(M.SentMsis);
        Write(1, MsiXOffset + 2, 0x8000, 2);
        Assert.Equal(2, M.SentMsis.Count);
    }

    [Fact]
    public void Messages_silence_INTx()
    {
        _d.Pci.SetInterrupt(true);
        Write(1, MsiXOffset + 2, 0x8000, 2);
        Assert.False(Irq.Level);
        Write(1, MsiXOffset + 2, 0, 2);
        Assert.True(Irq.Level);
    }

    [Fact]
    public void Own_capabilities_react_to_reads_and_writes()
    {
        int offset = FindCapability(M, 1, 0x09);
        uint before = Read(1, offset + 2, 1);
        Assert.Equal(before + 1, Read(1, offset + 2, 1));
        Write(1, offset + 3, 0xFF, 1);
        Assert.Equal(0x0Fu, Read(1, offset + 3, 1));
        Assert.Equal(1, _d.Counter.Writes);
    }

    [Fact]
    public void Reset_takes_the_BARs_off_the_bus_and_unplugging_everything()
    {
        Write(1, 0x10, 0xD000_0000);
        Enable(7);
        _d.Reset(ResetKind.Warm);
        Assert.Equal((uint.MaxValue, 0xCu, 0u), (M.ReadMmio(0xD000_0000, 4), Read(1, 0x10), Read(1, 0x04, 2)));
        Write(1, 0x10, 0xD000_0000);
        Enable(2);
        _d.Pci.SetInterrupt(true);
        _d.Dispose();
        Assert.Equal((uint.MaxValue, uint.MaxValue), (M.ReadMmio(0xD000_0000, 4), Read(1, 0)));
        Assert.False(Irq.Level);
    }

    [Fact]
    public void Misuse_is_refused()
    {
        PciFunction f = new(M, new PciIdentity(1, 2, 3));
        Assert.Throws<ArgumentOutOfRangeException>(() => f.AddMemoryBar(0, 24, _d));
        Assert.Throws<ArgumentOutOfRangeException>(() => f.AddMemoryBar(5, 4096, _d, is64: true));
        Assert.Throws<ArgumentOutOfRangeException>(() => f.AddIoBar(0, 512, _d));
        f.AddMemoryBar(0, 4096, _d, is64: true);
        Assert.Throws<ArgumentException>(() => f.AddIoBar(1, 8, _d));
        Assert.Throws<ArgumentOutOfRangeException>(() => f.AddMsi(3));
        Assert.Throws<VirtException>(() => f.Restore(_d.Pci.Save()));
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically()
    {
        SamplePciDevice? device = null;
        SaveRestoreCheck.ContinuesIdentically(
            () => NewMachine().Machine,
            m => device = new SamplePciDevice(m),
            m =>
            {
                Write(m, 1, 0x10, 0xD000_0000);
                Write(m, 1, 0x18, 0xC100);
                Write(m, 1, 0x20, 0xD001_0000);
                Write(m, 1, 0x04, 7, 2);
                Write(m, 1, FindCapability(m, 1, 0x11) + 2, 0xC000, 2);
                m.WriteMmio(0xD001_0000, 8, 0xFEE0_3000);
                m.WriteMmio(0xD001_0008, 8, 0x61);
                m.WriteMmio(0xD000_0000, 4, 99);
                device!.MsiX.Signal(0);
            },
            m =>
            {
                for (int i = 0; i < 256; i += 4)
                    Read(m, 1, i);
                m.ReadMmio(0xD000_0010, 8);
                m.In(0xC100, 4);
                Write(m, 1, FindCapability(m, 1, 0x11) + 2, 0x8000, 2);
                Write(m, 1, 0x10, 0xD100_0000);
                m.ReadMmio(0xD100_0010, 8);
            });
    }
}
