using VirtPS.Device.I8042;

namespace VirtPS.Devices.Tests.I8042;

public sealed class I8042Tests
{
    private readonly TestMachine _m;
    private readonly RecordingMachineControl _control;

    public I8042Tests()
    {
        (_m, _control) = RecordingMachineControl.NewMachine();
        Make.Device<I8042Plugin>(_m);
    }

    private static void Command(TestMachine m, int command, int? data = null)
    {
        m.Out(0x64, (uint)command);
        if (data is { } d)
            m.Out(0x60, (uint)d);
    }

    private void Command(int command, int? data = null) => Command(_m, command, data);

    /// <summary>All that is in the output buffer, as hexadecimal.</summary>
    private string Drain()
    {
        List<byte> bytes = [];
        while ((_m.In(0x64) & 1) != 0)
            bytes.Add((byte)_m.In(0x60));
        return Convert.ToHexString([.. bytes]);
    }

    [Fact]
    public void Self_test_and_keyboard_test_pass_the_auxiliary_test_fails()
    {
        Command(0xAA);
        Assert.Equal("55", Drain());
        Command(0xAB);
        Assert.Equal("00", Drain());
        Command(0xA9);
        Assert.Equal("04", Drain());
        Assert.Equal(0x14u, _m.In(0x64) & 0x14);
    }

    [Fact]
    public void A_new_answer_replaces_an_unread_one_and_keyboard_bytes_wait()
    {
        Command(0xAB);
        _m.Out(0x60, 0xEE);
        Command(0xAA);
        Assert.Equal("55EE", Drain());
        _m.Out(0x60, 0xEE);
        Command(0xAA);
        Assert.Equal("EE55", Drain());
    }

    [Fact]
    public void The_command_byte_is_RAM_location_0()
    {
        Command(0x20);
        Assert.Equal("45", Drain());
        Command(0x60, 0x74);
        Command(0x20);
        Assert.Equal("74", Drain());
        Command(0x7F, 0xA5);
        Command(0x3F);
        Assert.Equal("A5", Drain());
        Assert.Equal(8u, _m.In(0x64) & 8);
        Command(0x60, 0x45);
        Assert.Equal(0u, _m.In(0x64) & 8);
    }

    [Fact]
    public void Keyboard_reset_interrupts_for_each_byte()
    {
        _m.Out(0x60, 0xFF);
        Assert.True(_m.Isa(1).Level);
        Assert.Equal("FAAA", Drain());
        Assert.False(_m.Isa(1).Level);
        Assert.Equal(2, _m.Isa(1).RisingEdges);
    }

    [Theory]
    [InlineData(0x45, "FAAB41")]
    [InlineData(0x05, "FAAB83")]
    public void Identification_with_and_without_translation(int commandByte, string answer)
    {
        Command(0x60, commandByte);
        _m.Out(0x60, 0xF2);
        Assert.Equal(answer, Drain());
    }

    [Fact]
    public void Parameters_follow_their_commands()
    {
        Command(0x60, 0x05);
        foreach (int b in (int[])[0xED, 0x07, 0xF0, 0x01, 0xF0, 0x00, 0xF3, 0x20, 0xEE, 0x12, 0xFE])
            _m.Out(0x60, (uint)b);
        // LEDs, set 1, which set?, typematic, echo, unknown, resend (the last byte that was sent).
        Assert.Equal("FAFAFAFAFAFA01FAFAEEFE", Drain()[..22]);
    }

    [Fact]
    public void A_disabled_keyboard_keeps_its_answers_until_enabled()
    {
        _m.Out(0x60, 0xEE);
        _m.Out(0x60, 0xF4);
        Command(0xAD);
        Assert.Equal("EE", Drain());
        Command(0xAE);
        Assert.Equal("FA", Drain());
    }

    [Fact]
    public void Interrupts_only_when_the_command_byte_enables_them()
    {
        Command(0x60, 0x44);
        _m.Out(0x60, 0xEE);
        Assert.Equal(1u, _m.In(0x64) & 1);
        Assert.False(_m.Isa(1).Level);
    }

    [Fact]
    public void There_is_no_auxiliary_device()
    {
        // What Linux tries first: the loop-back byte must not come back as auxiliary data.
        Command(0xD3, 0x5A);
        Assert.Equal(0x01u, _m.In(0x64) & 0x21);
        Assert.Equal("5A", Drain());
        Command(0xA8);
        Command(0x20);
        Assert.Equal("45", Drain());
        Command(0x60, 0x47);
        Command(0xD4, 0xF2);
        Assert.Equal(0x61u, _m.In(0x64) & 0x61);
        Assert.True(_m.Isa(12).Level);
        Assert.Equal("FE", Drain());
    }

    [Fact]
    public void Pulsing_bit_0_of_the_output_port_resets()
    {
        Command(0xFE);
        Command(0xFF);
        Command(0xD1, 0xDE);
        Assert.Equal(2, _control.Requests.Count);
    }

    [Fact]
    public void A20_through_command_output_port_and_port_92()
    {
        Assert.True(_control.A20);
        Command(0xDD);
        Assert.False(_control.A20);
        Command(0xD1, 0xDF);
        Assert.True(_control.A20);
        Command(0xD0);
        Assert.Equal("CF", Drain());
        _m.Out(0x92, 0x00);
        Assert.False(_control.A20);
        Assert.Equal(0u, _m.In(0x92));
        Command(0xDF);
        Assert.Equal(2u, _m.In(0x92));
        Assert.Empty(_control.Requests);
        _m.Out(0x92, 0x03);
        Assert.Single(_control.Requests);
    }

    [Fact]
    public void A_guest_that_never_reads_fills_no_memory()
    {
        for (int i = 0; i < 1000; i++)
        {
            Command(0xAA);
            _m.Out(0x60, 0xEE);
        }

        Assert.InRange(Drain().Length, 4, 80);
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => RecordingMachineControl.NewMachine().Machine,
        m => Make.Device<I8042Plugin>(m),
        m =>
        {
            Command(m, 0x60, 0x47);
            m.Out(0x60, 0xF2);
            m.Out(0x60, 0xF0);
            m.In(0x60);
            Command(m, 0xAA);
            Command(m, 0x2F);
            Command(m, 0xDD);
            m.Out(0x92, 0x01);
            m.Out(0x64, 0xD4);
        },
        m =>
        {
            m.In(0x64);
            m.Out(0x60, 0x00);
            m.Out(0x60, 0x01);
            m.In(0x92);
            m.Out(0x92, 0x01);
            for (int i = 0; i < 12; i++)
            {
                m.In(0x64);
                m.In(0x60);
            }
        });
}
