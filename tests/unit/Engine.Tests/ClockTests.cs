using VirtPS.Sdk.Time;

namespace VirtPS.Engine.Tests;

public class ClockTests
{
    private readonly FakeSource _source = new();

    [Fact]
    public void Vm_time_starts_at_zero_and_stands_still_while_stopped()
    {
        var clock = new MachineClock(_source);
        _source.Host += 500;
        Assert.Equal(0ul, clock.Now);
        clock.Start();
        _source.Host += 100;
        Assert.Equal(100ul, clock.Now);
        clock.Stop();
        _source.Host += 1_000;
        Assert.Equal(100ul, clock.Now);
        clock.Start();
        _source.Host += 1;
        Assert.Equal(101ul, clock.Now);
        Assert.Equal(_source.UtcNow, clock.PowerOnUtc);
    }

    [Fact]
    public void Alarms_fire_in_order_and_never_early()
    {
        var clock = new MachineClock(_source);
        List<string> fired = [];
        Alarm a = clock.CreateAlarm("a", () => fired.Add("a")), b = clock.CreateAlarm("b", () => fired.Add("b"));
        clock.Start();
        a.Deadline = 200;
        b.Deadline = 100;
        Assert.Equal(100ul, clock.UntilNextAlarm());
        _source.Host += 99;
        clock.RunDueAlarms();
        Assert.Empty(fired);
        _source.Host += 1;
        clock.RunDueAlarms();
        Assert.Equal(["b"], fired);
        Assert.Null(b.Deadline);
        Assert.Equal(100ul, clock.UntilNextAlarm());
        b.Deadline = 150;
        _source.Host += 500;
        clock.RunDueAlarms();
        Assert.Equal(["b", "b", "a"], fired);
        Assert.Equal(ulong.MaxValue, clock.UntilNextAlarm());
    }

    [Fact]
    public void A_disarmed_or_postponed_alarm_does_not_fire()
    {
        var clock = new MachineClock(_source);
        int fired = 0;
        Alarm a = clock.CreateAlarm("a", () => fired++);
        clock.Start();
        a.Deadline = 10;
        a.Deadline = 1000;
        _source.Host += 20;
        clock.RunDueAlarms();
        Assert.Equal(0, fired);
        Assert.Equal(980ul, clock.UntilNextAlarm());
        a.Deadline = null;
        _source.Host += 2000;
        clock.RunDueAlarms();
        Assert.Equal(0, fired);
        Assert.Equal(ulong.MaxValue, clock.UntilNextAlarm());
    }

    [Fact]
    public void A_periodic_alarm_that_rearms_in_the_past_does_not_hold_the_others_up()
    {
        var clock = new MachineClock(_source);
        int fired = 0;
        Alarm? a = null;
        a = clock.CreateAlarm("a", () =>
        {
            fired++;
            a!.Deadline = (ulong)fired * 10;
        });
        clock.Start();
        a.Deadline = 10;
        _source.Host += 35;
        for (int i = 0; i < 10 && clock.UntilNextAlarm() == 0; i++)
            clock.RunDueAlarms();
        // 10, then 10 again (fired = 1 → 10), 20, 30; 40 is ahead.
        Assert.Equal(4, fired);
    }

    [Fact]
    public void Nothing_is_due_while_time_stands_still()
    {
        var clock = new MachineClock(_source);
        Alarm a = clock.CreateAlarm("a", () => { });
        a.Deadline = 0;
        Assert.Equal(ulong.MaxValue, clock.UntilNextAlarm());
        clock.Start();
        Assert.Equal(0ul, clock.UntilNextAlarm());
    }

    [Fact]
    public void A_sooner_alarm_wakes_whoever_waits_a_later_one_does_not()
    {
        var clock = new MachineClock(_source);
        int woken = 0;
        clock.Rescheduled = () => woken++;
        Alarm a = clock.CreateAlarm("a", () => { }), b = clock.CreateAlarm("b", () => { });
        clock.Start();
        woken = 0;
        a.Deadline = 1000;
        Assert.Equal(1, woken);
        b.Deadline = 2000;
        Assert.Equal(1, woken);
        b.Deadline = 500;
        Assert.Equal(2, woken);
    }

    [Fact]
    public void Restore_sets_time_and_date()
    {
        var clock = new MachineClock(_source);
        clock.Set(12345, DateTimeOffset.UnixEpoch);
        Assert.Equal(12345ul, clock.Now);
        Assert.Equal(DateTimeOffset.UnixEpoch, clock.PowerOnUtc);
        clock.Start();
        Assert.Throws<InvalidOperationException>(() => clock.Set(0, DateTimeOffset.UnixEpoch));
    }

    [Theory]
    [InlineData(1_000_000_000ul)]
    [InlineData(2_999_999_999ul)]
    [InlineData(1_193_182ul)]
    public void Tsc_and_nanoseconds_round_so_that_a_deadline_is_never_early(ulong frequency)
    {
        var scale = new TscScale(frequency);
        foreach (ulong tick in (ulong[])[0, 1, 2, 999, 123_456_789, 1ul << 40, 1ul << 53])
        {
            ulong ns = scale.ToNanoseconds(tick);
            Assert.True(scale.ToTicks(ns) >= tick);
            if (ns > 0)
                Assert.True(scale.ToTicks(ns - 1) < tick);
        }
    }

    [Fact]
    public void A_tsc_value_out_of_the_clocks_range_is_never_reached() =>
        Assert.Equal(ulong.MaxValue, new TscScale(1000).ToNanoseconds(ulong.MaxValue));
}
