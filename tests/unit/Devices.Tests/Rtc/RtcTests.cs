using VirtPS.Device.Rtc;
using VirtPS.Sdk.Memory;

namespace VirtPS.Devices.Tests.Rtc;

public sealed class RtcTests
{
    private const ulong Ms = 1_000_000, Sec = 1_000_000_000;

    // 2024-02-28 23:59:50 is a Wednesday before a leap day; power-on is half way through the second.
    private static readonly DateTimeOffset s_start = new(2024, 2, 28, 23, 59, 50, 500, TimeSpan.Zero);
    private readonly TestMachine _m = NewMachine();

    public RtcTests() => Make.Device<RtcPlugin>(_m);

    private TestLine Irq8 => _m.Isa(8);

    private static TestMachine NewMachine() => new() { DeviceName = "rtc", Time = new FakeClock { StartUtc = s_start } };

    private static uint Read(TestMachine m, int index)
    {
        m.Out(0x70, (uint)index);
        return m.In(0x71);
    }

    private static void Write(TestMachine m, int index, uint value)
    {
        m.Out(0x70, (uint)index);
        m.Out(0x71, value);
    }

    private uint Read(int index) => Read(_m, index);

    private void Write(int index, uint value) => Write(_m, index, value);

    private string Time() => $"{Read(0x32):X2}{Read(9):X2}-{Read(8):X2}-{Read(7):X2} {Read(4):X2}:{Read(2):X2}:{Read(0):X2} day {Read(6)}";

    [Fact]
    public void Time_runs_from_the_date_of_power_on_over_a_leap_day()
    {
        Assert.Equal("2024-02-28 23:59:50 day 4", Time());
        _m.Advance(500 * Ms);
        Assert.Equal("2024-02-28 23:59:51 day 4", Time());
        _m.Advance(9 * Sec);
        Assert.Equal("2024-02-29 00:00:00 day 5", Time());
        _m.Advance(86_400 * Sec);
        Assert.Equal("2024-03-01 00:00:00 day 6", Time());
    }

    [Theory]
    [InlineData(0x02, 0x23)]
    [InlineData(0x06, 23)]
    [InlineData(0x00, 0x91)]
    [InlineData(0x04, 0x8B)]
    public void Hours_in_BCD_and_binary_12_and_24(int control, int expected)
    {
        Write(0x0B, (uint)control);
        Assert.Equal((uint)expected, Read(4));
        _m.Advance(10 * Sec);
        Assert.Equal((control & 2) != 0 ? 0u : (control & 4) != 0 ? 12u : 0x12u, Read(4));
    }

    [Fact]
    public void Setting_the_time_under_SET_keeps_the_phase_of_the_second()
    {
        _m.Advance(100 * Ms);
        Write(0x0B, 0x82);
        _m.Advance(3 * Sec);
        Assert.Equal(0x50u, Read(0));
        foreach ((int index, uint value) in ((int, uint)[])[(0, 0x58), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x12), (9, 0x99), (0x32, 0x19), (6, 6)])
            Write(index, value);
        Write(0x0B, 0x02);
        Assert.Equal("1999-12-31 23:59:58 day 6", Time());
        _m.Advance(399 * Ms);
        Assert.Equal(0x58u, Read(0));
        _m.Advance(1 * Ms);
        Assert.Equal(0x59u, Read(0));
        _m.Advance(Sec);
        Assert.Equal("2000-01-01 00:00:00 day 7", Time());
    }

    [Fact]
    public void Releasing_the_divider_gives_the_first_update_half_a_second_later()
    {
        Write(0x0A, 0x76);
        _m.Advance(5 * Sec);
        Assert.Equal(0x50u, Read(0));
        Write(0x0A, 0x26);
        _m.Advance(499 * Ms);
        Assert.Equal(0x50u, Read(0));
        _m.Advance(1 * Ms);
        Assert.Equal(0x51u, Read(0));
    }

    [Fact]
    public void UIP_announces_the_update()
    {
        _m.Advance(497 * Ms);
        Assert.Equal(0x26u, Read(0x0A));
        _m.Advance(1 * Ms);
        Assert.Equal(0xA6u, Read(0x0A));
        Assert.Equal(0x50u, Read(0));
        _m.Advance(2 * Ms);
        Assert.Equal(0x26u, Read(0x0A));
        Assert.Equal(0x51u, Read(0));
    }

    [Fact]
    public void Update_ended_interrupts_until_register_C_is_read()
    {
        Write(0x0B, 0x12);
        _m.Advance(499 * Ms);
        Assert.False(Irq8.Level);
        _m.Advance(1 * Ms);
        Assert.True(Irq8.Level);
        _m.Advance(5 * Sec);
        Assert.Equal(1, Irq8.RisingEdges);
        Assert.Equal(0x90u, Read(0x0C) & 0xB0);
        Assert.False(Irq8.Level);
        Assert.Equal(0u, Read(0x0C) & 0x90);
        _m.Advance(Sec);
        Assert.Equal(2, Irq8.RisingEdges);
    }

    [Theory]
    [InlineData(0xC0, 0xC0, 0x55, 4_500)]
    [InlineData(0x00, 0x00, 0x00, 9_500)]
    [InlineData(0xFF, 0x01, 0x02, 71_500)]
    public void Alarm_matches_with_dont_care(int hour, int minute, int second, ulong expectedMs)
    {
        Write(5, (uint)hour);
        Write(3, (uint)minute);
        Write(1, (uint)second);
        Write(0x0B, 0x22);
        _m.Advance((expectedMs - 1) * Ms);
        Assert.False(Irq8.Level);
        _m.Advance(1 * Ms);
        Assert.True(Irq8.Level);
        Assert.Equal(0xA0u, Read(0x0C) & 0xA0);
    }

    [Fact]
    public void An_alarm_flag_is_set_even_when_its_interrupt_is_off()
    {
        Write(5, 0xFF);
        Write(3, 0xFF);
        Write(1, 0x59);
        _m.Advance(20 * Sec);
        Assert.Equal(0x20u, Read(0x0C) & 0xA0);
    }

    [Theory]
    [InlineData(0x26, 976_563)]
    [InlineData(0x2F, 500_000_000)]
    [InlineData(0x21, 3_906_250)]
    [InlineData(0x23, 122_071)]
    public void Periodic_interrupt_has_the_rate_of_register_A(int a, ulong period)
    {
        Write(0x0A, (uint)a);
        Write(0x0B, 0x42);
        Read(0x0C);
        ulong start = 0;
        for (int i = 0; i <= 8; i++)
        {
            _m.Time.AdvanceTo(_m.Time.NextDeadline!.Value);
            Assert.True(Irq8.Level);
            start = i == 0 ? _m.Time.Now : start;
            Assert.Equal(0xC0u, Read(0x0C) & 0xC0);
        }

        Assert.InRange(_m.Time.Now - start, (period * 8) - 8, (period * 8) + 8);
    }

    [Fact]
    public void Nothing_enabled_wakes_nobody() => Assert.Null(_m.Time.NextDeadline);

    [Fact]
    public void RAM_tells_memory_size_and_keeps_what_is_written()
    {
        TestMachine m = NewMachine();
        m.Memory.Add(new MemorySlot("ram", 0, new TestMemory(64 << 20)));
        Make.Device<RtcPlugin>(m);
        Assert.Equal(640u, Read(m, 0x15) | (Read(m, 0x16) << 8));
        Assert.Equal(63u * 1024, Read(m, 0x17) | (Read(m, 0x18) << 8));
        Assert.Equal(48u * 16, Read(m, 0x34) | (Read(m, 0x35) << 8));
        Assert.Equal(0u, Read(m, 0x5B));
        Write(m, 0x40, 0xA5);
        Write(m, 0xC1, 0x5A);
        Assert.Equal((0xA5u, 0x5Au, 0x80u), (Read(m, 0x40), Read(m, 0x41), Read(m, 0x0D)));
        Assert.Equal(0xFFu, m.In(0x70));
        m.Memory.Dispose();
    }

    [Fact]
    public void A_warm_reset_disables_interrupts_and_keeps_time_and_RAM()
    {
        TestMachine m = NewMachine();
        using IDevice rtc = Make.Device<RtcPlugin>(m);
        Write(m, 0x0B, 0x72);
        Write(m, 0x50, 0x11);
        m.Advance(2 * Sec);
        Assert.True(m.Isa(8).Level);
        rtc.Reset(ResetKind.Warm);
        Assert.False(m.Isa(8).Level);
        Assert.Equal((0x02u, 0x11u, 0x52u), (Read(m, 0x0B), Read(m, 0x50), Read(m, 0)));
    }

    [Theory]
    [InlineData(0x26, 0x72)]
    [InlineData(0x26, 0xB2)]
    [InlineData(0x76, 0x42)]
    public void Saved_in_mid_operation_it_continues_identically(int a, int b) => SaveRestoreCheck.ContinuesIdentically(
        NewMachine,
        m => Make.Device<RtcPlugin>(m),
        m =>
        {
            m.Advance(1_234_567_890);
            Write(m, 0x0A, (uint)a);
            Write(m, 0x0B, (uint)b | 0x80);
            foreach (int i in (int[])[0, 2, 4, 6, 7, 8, 9])
                Write(m, i, 0x05);
            Write(m, 1, 0x09);
            Write(m, 3, 0xFF);
            Write(m, 5, 0xFF);
            Write(m, 0x0B, (uint)b);
            Write(m, 0x7F, 0x99);
            m.Advance(987_654_321);
            m.Out(0x70, 0x89);
        },
        m =>
        {
            m.In(0x71);
            for (int i = 0; i < 0x80; i++)
                Read(m, i);
            for (int i = 0; i < 12; i++)
            {
                m.Advance(777_777_777);
                Read(m, 0x0C);
                Read(m, 0x00);
            }

            Write(m, 0x0A, 0x2F);
            Write(m, 0x0B, 0x72);
            m.Advance(3 * Sec);
            for (int i = 0; i < 0x10; i++)
                Read(m, i);
        });
}
