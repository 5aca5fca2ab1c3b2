using VirtPS.Device.Pit;

namespace VirtPS.Devices.Tests.Pit;

public sealed class PitTests
{
    private const int Control = 0x43, PortB = 0x61;
    private readonly TestMachine _m = new() { DeviceName = "pit" };

    public PitTests() => Make.Device<PitPlugin>(_m);

    private TestLine Irq0 => _m.Isa(0);

    /// <summary>Goes to the middle of a tick of the 1.193182 MHz clock.</summary>
    private void ToTick(long tick) => _m.Time.AdvanceTo((ulong)((((UInt128)tick * 1_000_000_000) + 500_000_000) / 1_193_182));

    private void Program(int counter, int mode, int count, bool bcd = false)
    {
        _m.Out(Control, (uint)((counter << 6) | 0x30 | (mode << 1) | (bcd ? 1 : 0)));
        _m.Out(0x40 + counter, (uint)count & 0xFF);
        _m.Out(0x40 + counter, (uint)count >> 8);
    }

    private int Latched(int counter)
    {
        _m.Out(Control, (uint)counter << 6);
        return (int)(_m.In(0x40 + counter) | (_m.In(0x40 + counter) << 8));
    }

    private bool Out2 => (_m.In(PortB) & 0x20) != 0;

    [Fact]
    public void Mode_0_rises_N_plus_1_clocks_after_the_write_and_counts_on()
    {
        Program(0, 0, 100);
        Assert.False(Irq0.Level);
        ToTick(50);
        Assert.Equal(51, Latched(0));
        ToTick(100);
        Assert.False(Irq0.Level);
        ToTick(101);
        Assert.True(Irq0.Level);
        ToTick(103);
        Assert.Equal(0xFFFE, Latched(0));
        ToTick(300_000);
        Assert.Equal(1, Irq0.RisingEdges);
    }

    [Fact]
    public void Mode_0_stops_at_the_first_byte_of_a_new_count()
    {
        Program(0, 0, 10);
        ToTick(20);
        Assert.True(Irq0.Level);
        _m.Out(0x40, 5);
        Assert.False(Irq0.Level);
        ToTick(100);
        Assert.False(Irq0.Level);
        _m.Out(0x40, 0);
        ToTick(106);
        Assert.True(Irq0.Level);
    }

    [Fact]
    public void Mode_1_is_a_retriggerable_one_shot_on_gate()
    {
        Program(2, 1, 50);
        Assert.True(Out2);
        ToTick(100);
        Assert.True(Out2);
        _m.Out(PortB, 1);
        ToTick(101);
        Assert.False(Out2);
        ToTick(140);
        _m.Out(PortB, 0);
        _m.Out(PortB, 1);
        ToTick(190);
        Assert.False(Out2);
        ToTick(191);
        Assert.True(Out2);
    }

    [Fact]
    public void Mode_2_interrupts_once_per_period()
    {
        Program(0, 2, 1000);
        Assert.True(Irq0.Level);
        int before = Irq0.RisingEdges;
        ToTick(1001);
        Assert.Equal(before + 1, Irq0.RisingEdges);
        ToTick(10_001);
        Assert.Equal(before + 10, Irq0.RisingEdges);
        ToTick(10_001 + 300);
        Assert.Equal(700, Latched(0));
    }

    [Fact]
    public void Mode_2_output_is_low_for_the_last_clock_of_each_period()
    {
        _m.Out(PortB, 1);
        Program(2, 2, 10);
        string shape = "";
        for (int t = 1; t <= 20; t++)
        {
            ToTick(t);
            shape += Out2 ? 'H' : 'L';
        }

        Assert.Equal("HHHHHHHHHLHHHHHHHHHL", shape);
    }

    [Theory]
    [InlineData(6, "HHHLLLHHHLLL")]
    [InlineData(5, "HHHLLHHHLLHH")]
    public void Mode_3_is_a_square_wave(int count, string expected)
    {
        _m.Out(PortB, 1);
        Program(2, 3, count);
        string shape = "";
        for (int t = 1; t <= 12; t++)
        {
            ToTick(t);
            shape += Out2 ? 'H' : 'L';
        }

        Assert.Equal(expected, shape);
    }

    [Fact]
    public void Mode_3_counts_down_by_two_in_each_half()
    {
        Program(0, 3, 1000);
        ToTick(1 + 100);
        Assert.Equal(800, Latched(0));
        ToTick(1 + 600);
        Assert.Equal(800, Latched(0));
    }

    [Fact]
    public void Mode_4_strobes_for_one_clock_without_reload()
    {
        Program(0, 4, 20);
        Assert.True(Irq0.Level);
        int before = Irq0.RisingEdges;
        ToTick(21);
        _m.Out(Control, 0xE2);
        Assert.Equal(0u, _m.In(0x40) & 0x80);
        ToTick(22);
        Assert.True(Irq0.Level);
        Assert.Equal(before + 1, Irq0.RisingEdges);
        ToTick(100_000);
        Assert.Equal(before + 1, Irq0.RisingEdges);
    }

    [Fact]
    public void Mode_5_strobes_after_a_gate_trigger()
    {
        Program(2, 5, 8);
        ToTick(50);
        Assert.True(Out2);
        _m.Out(PortB, 1);
        ToTick(59);
        Assert.False(Out2);
        ToTick(60);
        Assert.True(Out2);
    }

    [Fact]
    public void A_new_count_in_mode_2_waits_for_the_end_of_the_period()
    {
        Program(0, 2, 100);
        ToTick(51);
        _m.Out(0x40, 200);
        _m.Out(0x40, 0);
        _m.Out(Control, 0xE2);
        Assert.Equal(0x40u, _m.In(0x40) & 0x40);
        Assert.Equal(50, Latched(0));
        int before = Irq0.RisingEdges;
        ToTick(101);
        Assert.Equal(before + 1, Irq0.RisingEdges);
        Assert.Equal(200, Latched(0));
        ToTick(300);
        Assert.Equal(before + 1, Irq0.RisingEdges);
        ToTick(301);
        Assert.Equal(before + 2, Irq0.RisingEdges);
    }

    [Fact]
    public void A_new_count_in_mode_3_waits_for_the_end_of_the_half_period()
    {
        _m.Out(PortB, 1);
        Program(2, 3, 8);
        ToTick(2);
        _m.Out(0x42, 4);
        _m.Out(0x42, 0);
        string shape = "";
        for (int t = 2; t <= 13; t++)
        {
            ToTick(t);
            shape += Out2 ? 'H' : 'L';
        }

        Assert.Equal("HHHLLHHLLHHL", shape);
    }

    [Fact]
    public void Gate_holds_modes_0_and_4_and_restarts_2_and_3()
    {
        _m.Out(PortB, 1);
        Program(2, 0, 1000);
        ToTick(101);
        _m.Out(PortB, 0);
        ToTick(5000);
        Assert.Equal(900, Latched(2));
        _m.Out(PortB, 1);
        ToTick(5100);
        Assert.Equal(800, Latched(2));

        Program(2, 2, 1000);
        ToTick(5501);
        _m.Out(PortB, 0);
        Assert.True(Out2);
        _m.Out(PortB, 1);
        ToTick(5502);
        Assert.Equal(1000, Latched(2));
    }

    [Fact]
    public void BCD_counts_in_decimal()
    {
        Program(0, 0, 0x0100, bcd: true);
        ToTick(1 + 1);
        Assert.Equal(0x0099, Latched(0));
        ToTick(1 + 101);
        Assert.Equal(0x9999, Latched(0));
    }

    [Fact]
    public void Zero_counts_65536()
    {
        Program(0, 2, 0);
        int before = Irq0.RisingEdges;
        ToTick(65_536);
        Assert.Equal(before, Irq0.RisingEdges);
        ToTick(65_537);
        Assert.Equal(before + 1, Irq0.RisingEdges);
    }

    [Fact]
    public void A_latched_count_stays_until_both_bytes_are_read()
    {
        Program(0, 2, 1000);
        ToTick(101);
        _m.Out(Control, 0x00);
        ToTick(201);
        _m.Out(Control, 0x00);
        Assert.Equal(900u & 0xFF, _m.In(0x40));
        ToTick(301);
        Assert.Equal(900u >> 8, _m.In(0x40));
        Assert.Equal(700u & 0xFF, _m.In(0x40));
    }

    [Fact]
    public void Read_back_gives_status_first_then_the_count()
    {
        Program(1, 2, 0x1234);
        _m.Out(Control, 0xC4);
        ToTick(10);
        Assert.Equal(0x80u | 0x40 | 0x30 | 0x04, _m.In(0x41));
        Assert.Equal(0x34u, _m.In(0x41));
        Assert.Equal(0x12u, _m.In(0x41));
    }

    [Fact]
    public void Single_byte_access_modes_write_one_half()
    {
        _m.Out(Control, 0x14);
        _m.Out(0x40, 18);
        ToTick(1 + 3);
        Assert.Equal(15u, _m.In(0x40));
        _m.Out(Control, 0x24);
        _m.Out(0x40, 2);
        ToTick(5 + 0x101);
        Assert.Equal(0u, _m.In(0x40));
    }

    [Fact]
    public void Linux_calibration_sees_the_right_frequency()
    {
        // pit_calibrate_tsc: counter 2, mode 0, gate on, then wait for OUT2 in port 0x61.
        _m.Out(PortB, (_m.In(PortB) & ~2u) | 1);
        Program(2, 0, 1_193_182 / 100);
        ulong start = _m.Time.Now;
        while (!Out2)
            _m.Advance(1_000);
        Assert.InRange((long)(_m.Time.Now - start), 9_998_000, 10_004_000);
    }

    [Fact]
    public void Linux_fast_calibration_sees_the_high_byte_count_down_evenly()
    {
        // quick_pit_calibrate: mode 0 from 0xFFFF, the count read without latching, LSB then MSB; each access takes a microsecond.
        _m.Out(PortB, 1);
        Program(2, 0, 0xFFFF);
        ReadUnlatchedMsb();
        ulong last = 0;
        for (uint msb = 0xFF; msb >= 0xE0; msb--)
        {
            int reads = 0;
            while (ReadUnlatchedMsb() == msb)
                reads++;
            Assert.True(reads > 5, $"MSB {msb:X} was seen {reads} times.");
            if (last != 0)
                Assert.InRange((long)(_m.Time.Now - last), 210_000, 219_000);
            last = _m.Time.Now;
        }
    }

    private uint ReadUnlatchedMsb()
    {
        _m.Advance(1_000);
        _m.In(0x42);
        _m.Advance(1_000);
        return _m.In(0x42);
    }

    [Fact]
    public void Refresh_bit_toggles()
    {
        uint first = _m.In(PortB) & 0x10;
        _m.Advance(15_100);
        Assert.NotEqual(first, _m.In(PortB) & 0x10);
    }

    [Fact]
    public void Late_alarms_merge_into_one_edge()
    {
        TestMachine m = new();
        using IDevice pit = Make.Device<PitPlugin>(m);
        m.Out(Control, 0x34);
        m.Out(0x40, 0xE8);
        m.Out(0x40, 0x03);
        pit.Quiesce();
        int before = m.Isa(0).RisingEdges;
        m.Advance(100_000_000);
        Assert.Equal(before, m.Isa(0).RisingEdges);
        pit.Resume();
        Assert.Equal(before + 1, m.Isa(0).RisingEdges);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(4)]
    [InlineData(5)]
    public void Saved_in_mid_operation_it_continues_identically(int mode) => SaveRestoreCheck.ContinuesIdentically(
        () => new TestMachine(),
        m => Make.Device<PitPlugin>(m),
        m =>
        {
            m.Advance(12_345);
            m.Out(PortB, 1);
            foreach (int counter in (int[])[0, 2])
            {
                m.Out(Control, (uint)((counter << 6) | 0x30 | (mode << 1)));
                m.Out(0x40 + counter, 0x10);
                m.Out(0x40 + counter, 0x27);
            }

            m.Out(PortB, 0);
            m.Out(PortB, 3);
            m.Advance(3_000_000);
            // A latch half read, a count half written, a new count pending.
            m.Out(Control, 0x80);
            m.In(0x42);
            m.Out(0x40, 0x00);
            m.Out(0x40, 0x30);
            m.Out(0x42, 0x55);
        },
        m =>
        {
            m.In(0x42);
            m.Out(0x42, 0x20);
            for (int i = 0; i < 20; i++)
            {
                m.Advance(2_345_678);
                m.In(PortB);
                m.Out(Control, 0xCE);
                for (int j = 0; j < 3; j++)
                    m.In(0x40);
                for (int j = 0; j < 3; j++)
                    m.In(0x42);
            }
        });
}
