using VirtPS.Device.IoApic;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.IoApic;

public sealed class IoApicTests
{
    private const ulong Base = 0xFEC00000;
    private const ulong Masked = 1 << 16, Level = 1 << 15, RemoteIrr = 1 << 14;
    private readonly TestMachine _m = new() { DeviceName = "ioapic" };

    public IoApicTests() => Make.Device<IoApicPlugin>(_m);

    private static uint Read(TestMachine m, int index)
    {
        m.WriteMmio(Base, 4, (ulong)index);
        return (uint)m.ReadMmio(Base + 0x10, 4);
    }

    private static void Write(TestMachine m, int index, uint value)
    {
        m.WriteMmio(Base, 4, (ulong)index);
        m.WriteMmio(Base + 0x10, 4, value);
    }

    private static void Redirect(TestMachine m, int pin, ulong entry)
    {
        Write(m, 0x11 + (2 * pin), (uint)(entry >> 32));
        Write(m, 0x10 + (2 * pin), (uint)entry);
    }

    private ulong Entry(int pin) => Read(_m, 0x10 + (2 * pin)) | ((ulong)Read(_m, 0x11 + (2 * pin)) << 32);

    private void Pin(int pin, bool level) => _m.Provided<IInterruptInput>("ioapic").SetPin(pin, level);

    private void Eoi(byte vector) => _m.Provided<IEoiListener>().EndOfInterrupt(vector);

    [Fact]
    public void Identification_after_reset()
    {
        Assert.Equal(0u, Read(_m, 0));
        Assert.Equal(0x00170020u, Read(_m, 1));
        Write(_m, 0, 0x0F00_0000);
        Assert.Equal((0x0F00_0000u, 0x0F00_0000u), (Read(_m, 0), Read(_m, 2)));
        for (int pin = 0; pin < 24; pin++)
            Assert.Equal(Masked, Entry(pin));
        Assert.Equal(0u, Read(_m, 0x40));
    }

    [Fact]
    public void An_edge_sends_once()
    {
        Redirect(_m, 4, 0x0300_0000_0000_0034);
        Pin(4, true);
        Pin(4, true);
        Assert.Equal([new MsiMessage(0xFEE0_3000, 0x34)], _m.SentMsis);
        Pin(4, false);
        Pin(4, true);
        Assert.Equal(2, _m.SentMsis.Count);
    }

    [Fact]
    public void Edges_on_a_masked_pin_are_lost()
    {
        Redirect(_m, 4, Masked | 0x34);
        Pin(4, true);
        Redirect(_m, 4, 0x34);
        Assert.Empty(_m.SentMsis);
    }

    [Fact]
    public void A_level_is_sent_again_after_EOI_while_it_lasts()
    {
        Redirect(_m, 9, Level | 0x49);
        Pin(9, true);
        Assert.Equal([new MsiMessage(0xFEE0_0000, 0xC049)], _m.SentMsis);
        Assert.Equal(Level | RemoteIrr | 0x49, Entry(9));
        Eoi(0x48);
        Assert.Single(_m.SentMsis);
        Eoi(0x49);
        Assert.Equal(2, _m.SentMsis.Count);
        Pin(9, false);
        Eoi(0x49);
        Assert.Equal(2, _m.SentMsis.Count);
        Assert.Equal(Level | 0x49, Entry(9));
    }

    [Fact]
    public void A_masked_level_is_sent_when_unmasked()
    {
        Redirect(_m, 9, Masked | Level | 0x49);
        Pin(9, true);
        Assert.Empty(_m.SentMsis);
        Redirect(_m, 9, Level | 0x49);
        Assert.Single(_m.SentMsis);
    }

    [Fact]
    public void The_EOI_register_ends_like_a_broadcast()
    {
        Redirect(_m, 16, Level | 0x60);
        Redirect(_m, 17, Level | 0x60);
        Pin(16, true);
        Pin(17, true);
        Pin(17, false);
        _m.WriteMmio(Base + 0x40, 4, 0x60);
        Assert.Equal(3, _m.SentMsis.Count);
        Assert.Equal((Level | RemoteIrr | 0x60, Level | 0x60), (Entry(16), Entry(17)));
    }

    [Fact]
    public void Turning_an_entry_to_edge_clears_remote_IRR()
    {
        Redirect(_m, 16, Level | 0x60);
        Pin(16, true);
        Pin(16, false);
        Redirect(_m, 16, Masked | 0x60);
        Redirect(_m, 16, Level | 0x60);
        Assert.Equal(Level | 0x60, Entry(16));
    }

    [Fact]
    public void Delivery_and_destination_modes_are_in_the_message()
    {
        Redirect(_m, 1, 0xFF00_0000_0000_0900 | 0x31);
        Redirect(_m, 2, 0x0100_0000_0000_0400 | Level);
        Redirect(_m, 3, 0x0000_0000_0000_0700 | Level);
        foreach (int pin in (int[])[1, 2, 3])
            Pin(pin, true);
        Assert.Equal([new MsiMessage(0xFEEF_F00C, 0x131), new MsiMessage(0xFEE0_1000, 0x400), new MsiMessage(0xFEE0_0000, 0x700)], _m.SentMsis);
        Assert.Equal(0ul, Entry(2) & RemoteIrr);
    }

    [Fact]
    public void Read_only_bits_stay()
    {
        Redirect(_m, 5, ulong.MaxValue);
        Assert.Equal(0xFF00_0000_0001_AFFFul, Entry(5));
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => new TestMachine(),
        m => Make.Device<IoApicPlugin>(m),
        m =>
        {
            IInterruptInput pins = m.Provided<IInterruptInput>("ioapic");
            Write(m, 0, 0x0500_0000);
            Redirect(m, 4, 0x34);
            Redirect(m, 9, Level | 0x49);
            Redirect(m, 10, Masked | Level | 0x4A);
            pins.SetPin(4, true);
            pins.SetPin(9, true);
            pins.SetPin(10, true);
            m.WriteMmio(Base, 4, 0x24);
        },
        m =>
        {
            m.ReadMmio(Base + 0x10, 4);
            m.WriteMmio(Base + 0x10, 4, (ulong)(Level | 0x4A));
            IInterruptInput pins = m.Provided<IInterruptInput>("ioapic");
            pins.SetPin(4, true);
            pins.SetPin(9, true);
            m.Provided<IEoiListener>().EndOfInterrupt(0x49);
            m.Provided<IEoiListener>().EndOfInterrupt(0x4A);
            for (int i = 0; i < 0x40; i++)
                Read(m, i);
        });
}
