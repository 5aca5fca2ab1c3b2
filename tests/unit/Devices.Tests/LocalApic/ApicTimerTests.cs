using VirtPS.Device.LocalApic;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.LocalApic;

public sealed class ApicTimerTests : ApicFixture
{
    [Theory]
    [InlineData(0xB, 1)]
    [InlineData(0x0, 2)]
    [InlineData(0x3, 16)]
    [InlineData(0x8, 32)]
    [InlineData(0xA, 128)]
    public void One_shot_expires_once_after_count_times_divider_nanoseconds(int divide, int factor)
    {
        Apic.WriteRegister(Divide, (uint)divide);
        Apic.WriteRegister(LvtTimer, 0x40);
        Apic.WriteRegister(InitialCount, 1000);
        Pass((ulong)(600 * factor));
        Assert.Equal(400u, Apic.ReadRegister(CurrentCount));
        Pass((ulong)(400 * factor) - 1);
        Assert.False(Apic.HasInterrupt);
        Pass(1);
        Assert.Equal(0x40, Apic.Acknowledge());
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(0u, Apic.ReadRegister(CurrentCount));
        Pass(1_000_000);
        Assert.False(Apic.HasInterrupt);
        Assert.Null(M.Time.NextDeadline);
    }

    [Fact]
    public void Periodic_expires_every_period_without_drift()
    {
        Apic.WriteRegister(Divide, 0xB);
        Apic.WriteRegister(LvtTimer, 0x40 | Periodic);
        Apic.WriteRegister(InitialCount, 1000);
        for (int i = 0; i < 5; i++)
        {
            Pass(1000);
            Assert.Equal(0x40, Apic.Acknowledge());
            Apic.WriteRegister(Eoi, 0);
        }

        // Late by two and a half periods: one interrupt, and the phase is kept.
        M.Time.Advance(2500);
        Run();
        Assert.Equal(0x40, Apic.Acknowledge());
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(-1, Apic.Acknowledge());
        Assert.Equal(500u, Apic.ReadRegister(CurrentCount));
        Pass(499);
        Assert.False(Apic.HasInterrupt);
        Pass(1);
        Assert.True(Apic.HasInterrupt);
    }

    [Fact]
    public void A_masked_timer_counts_but_neither_interrupts_nor_wakes_the_host()
    {
        Apic.WriteRegister(Divide, 0xB);
        Apic.WriteRegister(LvtTimer, 0x40 | Masked);
        Apic.WriteRegister(InitialCount, 1000);
        Assert.Null(M.Time.NextDeadline);
        Pass(300);
        Assert.Equal(700u, Apic.ReadRegister(CurrentCount));
        Pass(5000);
        Apic.WriteRegister(LvtTimer, 0x40);
        Run();
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void Writing_zero_stops_and_a_new_divider_goes_on_from_the_present_count()
    {
        Apic.WriteRegister(Divide, 0xB);
        Apic.WriteRegister(LvtTimer, 0x40);
        Apic.WriteRegister(InitialCount, 1000);
        Pass(500);
        Apic.WriteRegister(Divide, 0x0);
        Pass(998);
        Assert.Equal(1u, Apic.ReadRegister(CurrentCount));
        Apic.WriteRegister(InitialCount, 0);
        Pass(10_000);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void TSC_deadline_interrupts_when_the_guest_s_TSC_gets_there()
    {
        Apic.WriteRegister(LvtTimer, 0x41 | DeadlineMode);
        Wrmsr(DeadlineMsr, 10_001);
        Assert.Equal(10_001ul, Rdmsr(DeadlineMsr));
        Pass(5_000);
        Assert.False(Apic.HasInterrupt);
        Pass(1);
        Assert.Equal(0x41, Apic.Acknowledge());
        Assert.Equal(0ul, Rdmsr(DeadlineMsr));
        Apic.WriteRegister(Eoi, 0);
        Wrmsr(DeadlineMsr, 1);
        Assert.Equal(0x41, Apic.Acknowledge());
    }

    [Fact]
    public void Changing_to_or_from_deadline_mode_disarms_and_each_mode_ignores_the_other_s_register()
    {
        Wrmsr(DeadlineMsr, 5);
        Assert.Equal(0ul, Rdmsr(DeadlineMsr));
        Apic.WriteRegister(LvtTimer, 0x41 | DeadlineMode);
        Apic.WriteRegister(InitialCount, 77);
        Assert.Equal(0u, Apic.ReadRegister(InitialCount));
        Wrmsr(DeadlineMsr, 10_000);
        Apic.WriteRegister(LvtTimer, 0x41);
        Apic.WriteRegister(LvtTimer, 0x41 | DeadlineMode);
        Pass(100_000);
        Assert.False(Apic.HasInterrupt);
    }

    [Fact]
    public void Without_the_feature_there_is_no_deadline_MSR()
    {
        TestMachine m = new();
        m.Offer<ILocalApicHost>(new ScriptedApicHost(m));
        Make.Device<LocalApicPlugin>(m, """{"tscDeadline":false,"x2apic":false}""");
        ILocalApic apic = m.Provided<ILocalApic>("0");
        Assert.False(apic.ReadMsr(DeadlineMsr, out _));
        Assert.False(apic.WriteMsr(DeadlineMsr, 1));
        Assert.False(apic.WriteMsr(ApicBaseMsr, apic.ApicBase | 0x400));
    }

    [Theory]
    [InlineData(0u)]
    [InlineData(Periodic)]
    [InlineData(DeadlineMode)]
    public void Saved_in_mid_operation_it_continues_identically(uint mode)
    {
        SaveRestoreCheck.ContinuesIdentically(
            () =>
            {
                TestMachine m = new();
                m.Offer<ILocalApicHost>(new ScriptedApicHost(m));
                return m;
            },
            m => Make.Device<LocalApicPlugin>(m),
            m =>
            {
                ILocalApic apic = m.Provided<ILocalApic>("0");
                m.Advance(777);
                apic.WriteRegister(Svr, 0x1FE);
                apic.WriteRegister(Divide, 0x3);
                apic.WriteRegister(LvtTimer, 0x55 | mode);
                apic.WriteRegister(InitialCount, 10_000);
                apic.WriteMsr(DeadlineMsr, 400_000);
                apic.WriteRegister(Ldr, 0x01000000);
                apic.Post(DeliveryMode.Fixed, 0x61, true);
                apic.Post(DeliveryMode.Fixed, 0x71, false);
                apic.Process();
                m.Record($"{apic.Acknowledge()}");
                apic.Post(DeliveryMode.Fixed, 0x81, true);
                apic.Post(DeliveryMode.Nmi, 0, false);
                m.Advance(1_000);
            },
            m =>
            {
                ILocalApic apic = m.Provided<ILocalApic>("0");
                for (int i = 0; i < 6; i++)
                {
                    m.Advance(100_000);
                    apic.Process();
                    m.Record($"count {apic.ReadRegister(CurrentCount)} deadline {apic.ReadMsr(DeadlineMsr, out ulong d)} {d}");
                    m.Record($"vector {apic.Acknowledge()}");
                    apic.WriteRegister(Eoi, 0);
                }

                m.Record($"{apic.MatchesDestination(1, true)} {apic.ReadRegister(Svr):X}");
            });
    }
}
