using VirtPS.Device.Acpi;
using VirtPS.Sdk;

namespace VirtPS.Devices.Tests.Acpi;

public sealed class PowerManagementTests
{
    private const int Status = 0x600, Enable = 0x602, Control = 0x604, Timer = 0x608, Gpe = 0x620;
    private readonly TestMachine _m;
    private readonly RecordingMachineControl _control;

    public PowerManagementTests()
    {
        (_m, _control) = RecordingMachineControl.NewMachine();
        Make.Device<AcpiPlugin>(_m);
    }

    private TestLine Sci => _m.Isa(9);

    [Fact]
    public void ACPI_mode_is_on_and_stays_on()
    {
        Assert.Equal(1u, _m.In(Control, 2));
        _m.Out(Control, 0, 2);
        Assert.Equal(1u, _m.In(Control, 2));
    }

    [Fact]
    public void The_power_button_raises_the_SCI_until_its_status_is_cleared()
    {
        IPowerButton button = _m.Provided<IPowerButton>();
        button.Press();
        Assert.False(Sci.Level);
        Assert.Equal(0x100u, _m.In(Status, 2));
        _m.Out(Enable, 0x100, 2);
        Assert.True(Sci.Level);
        _m.Out(Status, 0xFEFF, 2);
        Assert.True(Sci.Level);
        _m.Out(Status, 0x100, 2);
        Assert.False(Sci.Level);
        Assert.Equal((0u, 0x100u), (_m.In(Status, 2), _m.In(Enable, 2)));
    }

    [Fact]
    public void S5_switches_off_other_types_do_not()
    {
        _m.Out(Control, 0x2000 | (3 << 10), 2);
        Assert.Empty(_control.Requests);
        _m.Out(Control, 5 << 10, 2);
        Assert.Empty(_control.Requests);
        Assert.Equal(0x1401u, _m.In(Control, 2));
        _m.Out(Control, 0x2000 | (5 << 10), 2);
        Assert.Equal(["off  ACPI S5"], _control.Requests);
    }

    [Fact]
    public void Registers_take_bytes_words_and_double_words()
    {
        _m.Out(Status, 0x0521_0000, 4);
        Assert.Equal(0x0521u, _m.In(Enable, 2));
        _m.Out(Enable + 1, 0x01);
        Assert.Equal(0x0121_0000u, _m.In(Status, 4));
    }

    [Fact]
    public void The_timer_counts_at_3_579545_MHz()
    {
        _m.Advance(1_000_000_000);
        Assert.Equal(3_579_545u, _m.In(Timer, 4));
        _m.Advance(2_000_000_000);
        Assert.Equal(3u * 3_579_545, _m.In(Timer, 4));
        Assert.Equal(3u * 3_579_545 & 0xFFFF, _m.In(Timer, 2));
    }

    [Theory]
    [InlineData("""{"timerBits":24}""", 2_343_484_437)]
    [InlineData("{}", 599_932_015_940)]
    public void Timer_status_is_set_when_the_highest_bit_changes(string spec, ulong carry)
    {
        TestMachine m = new();
        Make.Device<AcpiPlugin>(m, spec);
        m.Out(Enable, 1, 2);
        m.Time.AdvanceTo(carry - 300);
        Assert.False(m.Isa(9).Level);
        m.Time.AdvanceTo(carry + 300);
        Assert.True(m.Isa(9).Level);
        m.Out(Status, 1, 2);
        Assert.False(m.Isa(9).Level);
        m.Time.AdvanceTo((carry * 2) - 600);
        Assert.False(m.Isa(9).Level);
        m.Time.AdvanceTo((carry * 2) + 600);
        Assert.True(m.Isa(9).Level);
    }

    [Fact]
    public void A_24_bit_timer_wraps()
    {
        TestMachine m = new();
        Make.Device<AcpiPlugin>(m, """{"timerBits":24}""");
        m.Advance(10_000_000_000);
        Assert.Equal(35_795_450u & 0xFFFFFF, m.In(Timer, 4));
        Assert.Throws<VirtException>(() => Make.Device<AcpiPlugin>(new TestMachine(), """{"timerBits":31}"""));
    }

    [Fact]
    public void General_purpose_events_raise_the_SCI_when_enabled()
    {
        IGeneralPurposeEvents gpe = _m.Provided<IGeneralPurposeEvents>();
        gpe.Raise(10);
        Assert.Equal(0x0400u, _m.In(Gpe, 4));
        Assert.False(Sci.Level);
        _m.Out(Gpe + 3, 0x04);
        Assert.True(Sci.Level);
        _m.Out(Gpe + 1, 0x04);
        Assert.False(Sci.Level);
        Assert.Throws<ArgumentOutOfRangeException>(() => gpe.Raise(16));
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => RecordingMachineControl.NewMachine().Machine,
        m => Make.Device<AcpiPlugin>(m, """{"timerBits":24}"""),
        m =>
        {
            m.Advance(2_000_000_000);
            m.Out(Enable, 0x101, 2);
            m.Out(Gpe + 2, 0x8000, 2);
            m.Provided<IPowerButton>().Press();
            m.Provided<IGeneralPurposeEvents>().Raise(3);
            m.Out(Control, 5 << 10, 2);
        },
        m =>
        {
            m.In(Status, 4);
            m.Out(Status, 0x100, 2);
            m.Advance(1_000_000_000);
            foreach (int port in (int[])[Status, Control, Timer, Gpe])
                m.In(port, 4);
            m.Out(Control + 1, 0x34);
        });
}
