using VirtPS.Device.Serial;
using VirtPS.Sdk;

namespace VirtPS.Devices.Tests.Serial;

public sealed class Uart16550ATests
{
    private const int Rbr = 0x3F8, Ier = 0x3F9, Iir = 0x3FA, Lcr = 0x3FB, Mcr = 0x3FC, Lsr = 0x3FD, Msr = 0x3FE, Scr = 0x3FF;
    private readonly TestMachine _m = new() { DeviceName = "com1" };

    public Uart16550ATests()
    {
        Make.Device<SerialPlugin>(_m);
        _m.Out(Lcr, 0x03);
    }

    private TestLine Irq => _m.Isa(4);

    [Fact]
    public void Output_reaches_the_console_at_once_and_the_transmitter_is_empty_again()
    {
        foreach (char c in "Hello")
            _m.Out(Rbr, c);
        Assert.Equal("Hello", _m.Char("console").Output);
        Assert.Equal(0x60u, _m.In(Lsr));
    }

    [Fact]
    public void Enabling_ETBEI_interrupts_and_reading_IIR_resets_it()
    {
        _m.Out(Ier, 2);
        Assert.True(Irq.Level);
        Assert.Equal(0x02u, _m.In(Iir));
        Assert.False(Irq.Level);
        Assert.Equal(0x01u, _m.In(Iir));
        _m.Out(Rbr, 'x');
        Assert.True(Irq.Level);
    }

    [Fact]
    public void A_higher_cause_shown_in_IIR_leaves_the_THRE_interrupt_pending()
    {
        _m.Out(Ier, 3);
        _m.Char("console").Type("a");
        Assert.Equal(0x04u, _m.In(Iir));
        Assert.Equal((uint)'a', _m.In(Rbr));
        Assert.Equal(0x02u, _m.In(Iir));
    }

    [Theory]
    [InlineData(0x01, 1)]
    [InlineData(0x41, 4)]
    [InlineData(0x81, 8)]
    [InlineData(0xC1, 14)]
    public void Received_data_interrupt_comes_at_the_trigger_level(int fcr, int level)
    {
        _m.Out(Iir, (uint)fcr);
        _m.Out(Ier, 1);
        _m.Char("console").Type(new string('x', level - 1));
        Assert.False(Irq.Level);
        _m.Char("console").Type("x");
        Assert.True(Irq.Level);
        Assert.Equal(0xC4u, _m.In(Iir));
    }

    [Fact]
    public void Character_timeout_strikes_after_four_character_times()
    {
        _m.Out(Lcr, 0x83);
        _m.Out(Rbr, 1);
        _m.Out(Lcr, 0x03);
        _m.Out(Iir, 0x81);
        _m.Out(Ier, 1);
        _m.Char("console").Type("ab");
        // 115200 baud, 8N1: 10 bits are 86.8 us, four characters 347.2 us.
        _m.Advance(347_000);
        Assert.False(Irq.Level);
        _m.Advance(300);
        Assert.True(Irq.Level);
        Assert.Equal(0xCCu, _m.In(Iir));
        _m.In(Rbr);
        Assert.Equal(0xC1u, _m.In(Iir));
        _m.Advance(347_300);
        Assert.Equal(0xCCu, _m.In(Iir));
    }

    [Fact]
    public void The_backend_keeps_what_the_FIFO_has_no_room_for()
    {
        _m.Out(Iir, 0x01);
        _m.Char("console").Type("0123456789abcdefXYZ");
        Assert.Equal(3, _m.Char("console").WaitingInput);
        string read = "";
        while ((_m.In(Lsr) & 1) != 0)
            read += (char)_m.In(Rbr);
        Assert.Equal("0123456789abcdefXYZ", read);
    }

    [Fact]
    public void Loopback_turns_output_into_input_and_shows_the_modem_outputs()
    {
        _m.Out(Mcr, 0x1A);
        Assert.Equal(0x90u, _m.In(Msr) & 0xF0);
        _m.Out(Rbr, 0x5A);
        Assert.Equal(0x61u, _m.In(Lsr));
        Assert.Equal(0x5Au, _m.In(Rbr));
        Assert.Equal("", _m.Char("console").Output);
    }

    [Fact]
    public void Modem_changes_interrupt_and_RI_only_on_its_trailing_edge()
    {
        _m.Out(Mcr, 0x10);
        _m.In(Msr);
        _m.Out(Ier, 8);
        _m.Out(Mcr, 0x14);
        Assert.Equal(0x40u, _m.In(Msr));
        _m.Out(Mcr, 0x10);
        Assert.True(Irq.Level);
        Assert.Equal(0x00u, _m.In(Iir));
        Assert.Equal(0x04u, _m.In(Msr));
        Assert.False(Irq.Level);
    }

    [Fact]
    public void Overrun_in_loopback_is_a_line_status_interrupt_above_all_others()
    {
        _m.Out(Mcr, 0x10);
        _m.Out(Ier, 0x07);
        _m.Out(Rbr, 1);
        _m.Out(Rbr, 2);
        Assert.Equal(0x06u, _m.In(Iir));
        Assert.Equal(0x63u, _m.In(Lsr));
        Assert.Equal(0x04u, _m.In(Iir));
        Assert.Equal(2u, _m.In(Rbr));
    }

    [Fact]
    public void Break_in_loopback_is_one_zero_character_with_its_error_bit()
    {
        _m.Out(Iir, 0x01);
        _m.Out(Mcr, 0x10);
        _m.Out(Lcr, 0x43);
        Assert.Equal(0xF1u, _m.In(Lsr));
        Assert.Equal(0x61u, _m.In(Lsr));
        Assert.Equal(0u, _m.In(Rbr));
    }

    [Fact]
    public void Divisor_latch_and_scratch_are_registers_of_their_own()
    {
        _m.Out(Lcr, 0x80);
        _m.Out(Rbr, 0x34);
        _m.Out(Ier, 0x12);
        _m.Out(Scr, 0xA5);
        Assert.Equal((0x34u, 0x12u, 0xA5u), (_m.In(Rbr), _m.In(Ier), _m.In(Scr)));
        _m.Out(Lcr, 0x00);
        Assert.Equal(0u, _m.In(Ier));
        Assert.Equal("", _m.Char("console").Output);
    }

    [Fact]
    public void FIFO_control_bits_count_only_with_bit_0_and_toggling_it_clears()
    {
        _m.Out(Iir, 0xC0);
        Assert.Equal(0x01u, _m.In(Iir));
        _m.Char("console").Type("q");
        Assert.Equal(0x61u, _m.In(Lsr));
        _m.Out(Iir, 0x01);
        Assert.Equal(0x60u, _m.In(Lsr));
    }

    [Fact]
    public void Characters_are_cut_to_the_word_length()
    {
        _m.Out(Lcr, 0x02);
        _m.Char("console").Type("\u00e1");
        Assert.Equal(0x61u, _m.In(Rbr));
    }

    [Fact]
    public void Other_ports_have_no_console_unless_named()
    {
        TestMachine m = new();
        Make.Device<SerialPlugin>(m, """{"port":760,"irq":3}""");
        m.Out(0x2F8, 'x');
        Assert.Equal("", m.Char("console").Output);
    }

    [Theory]
    [InlineData("""{"port":1017}""", "port")]
    [InlineData("""{"port":70000}""", "port")]
    [InlineData("""{"irq":2}""", "irq")]
    [InlineData("""{"irq":16}""", "irq")]
    [InlineData("""{"irq":"four"}""", "irq")]
    public void Bad_properties_are_named(string spec, string property)
    {
        VirtException e = Assert.Throws<VirtException>(() => Make.Device<SerialPlugin>(new TestMachine(), spec));
        Assert.Equal("DevicePropertyInvalid", e.ErrorId);
        Assert.Contains($"'{property}'", e.Message);
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => new TestMachine { DeviceName = "com1" },
        m => Make.Device<SerialPlugin>(m),
        m =>
        {
            m.Out(Lcr, 0x83);
            m.Out(Rbr, 3);
            m.Out(Lcr, 0x03);
            m.Out(Iir, 0x81);
            m.Out(Ier, 0x0F);
            m.Out(Scr, 0x77);
            m.Char("console").Type("abc");
            m.Advance(400_000);
        },
        m =>
        {
            m.Advance(1_000_000);
            for (int i = 0; i < 4; i++)
            {
                m.In(Iir);
                m.In(Rbr);
                m.In(Lsr);
            }

            for (int r = Ier; r <= Scr; r++)
                m.In(r);
        });

    [Fact]
    public void State_of_another_device_or_a_newer_schema_is_refused()
    {
        using IDevice d = Make.Device<SerialPlugin>(new TestMachine());
        DeviceState s = d.Save();
        Assert.Throws<VirtException>(() => d.Restore(s with { TypeId = "virtps.rtc/mc146818" }));
        Assert.Throws<VirtException>(() => d.Restore(s with { SchemaVersion = 99 }));
    }
}
