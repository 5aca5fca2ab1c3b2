using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.LocalApic;

public sealed class ApicInterruptTests : ApicFixture
{
    [Fact]
    public void Reset_state_is_the_manual_s()
    {
        (_, _, ILocalApic apic) = NewApic(3);
        Assert.Equal(0xFEE00800ul, apic.ApicBase);
        Assert.Equal(0x03000000u, apic.ReadRegister(Id));
        Assert.Equal(0x01050014u, apic.ReadRegister(Version));
        Assert.Equal(0xFFu, apic.ReadRegister(Svr));
        Assert.Equal(0xFFFFFFFFu, apic.ReadRegister(Dfr));
        for (int lvt = LvtTimer; lvt <= LvtError; lvt += 0x10)
            Assert.Equal(Masked, apic.ReadRegister(lvt));
        Assert.Equal(0xFEE00900ul, Apic.ApicBase);
    }

    [Fact]
    public void A_fixed_interrupt_goes_through_IRR_ISR_and_EOI()
    {
        Deliver(0x51);
        Assert.True(Host.InterruptPending);
        Assert.Equal(1u << 0x11, Apic.ReadRegister(Irr + 0x20));
        Assert.Equal(0x51, Apic.Acknowledge());
        Assert.False(Host.InterruptPending);
        Assert.Equal(0u, Apic.ReadRegister(Irr + 0x20));
        Assert.Equal(1u << 0x11, Apic.ReadRegister(Isr + 0x20));
        Assert.Equal(0x50u, Apic.ReadRegister(Ppr));
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(0u, Apic.ReadRegister(Isr + 0x20));
        Assert.DoesNotContain(Host.Events, e => e.StartsWith("EOI", StringComparison.Ordinal));
        Assert.Equal(-1, Apic.Acknowledge());
    }

    [Fact]
    public void Level_interrupts_broadcast_their_EOI_unless_suppressed()
    {
        Deliver(0x61, level: true);
        Assert.Equal(2u, Apic.ReadRegister(Tmr + 0x30));
        Apic.Acknowledge();
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(["EOI 61"], Host.Events);
        Apic.WriteRegister(Svr, 0x11FF);
        Deliver(0x61, level: true);
        Apic.Acknowledge();
        Apic.WriteRegister(Eoi, 0);
        Assert.Single(Host.Events);
    }

    [Fact]
    public void Higher_classes_preempt_equal_classes_wait()
    {
        Deliver(0x51);
        Apic.Acknowledge();
        Deliver(0x5F);
        Assert.False(Apic.HasInterrupt);
        Deliver(0x60);
        Assert.Equal(0x60, Apic.Acknowledge());
        Apic.WriteRegister(Eoi, 0);
        Assert.False(Host.InterruptPending);
        Apic.WriteRegister(Eoi, 0);
        Assert.True(Host.InterruptPending);
        Assert.Equal(0x5F, Apic.Acknowledge());
    }

    [Fact]
    public void Task_priority_holds_interrupts_back()
    {
        Apic.TaskPriority = 0x60;
        Deliver(0x6F);
        Assert.False(Host.InterruptPending);
        Apic.TaskPriority = 0x50;
        Assert.True(Host.InterruptPending);
        Apic.WriteRegister(Tpr, 0x7F);
        Assert.Equal((0x7F, 0x7Fu), (Apic.TaskPriority, Apic.ReadRegister(Ppr)));
        Assert.False(Host.InterruptPending);
    }

    [Fact]
    public void Posting_only_queues_and_asks_for_a_look()
    {
        Apic.Post(DeliveryMode.Fixed, 0x44, false);
        Assert.True(Host.ProcessRequested);
        Assert.False(Apic.HasInterrupt);
        Run();
        Assert.True(Apic.HasInterrupt);
    }

    [Fact]
    public async Task Posting_from_many_threads_loses_nothing()
    {
        Task[] senders = [.. Enumerable.Range(0, 4).Select(t => Task.Run(() =>
        {
            for (int v = 0x20 + t; v < 0x100; v += 4)
                Apic.Post(DeliveryMode.Fixed, (byte)v, level: (v & 8) != 0);
        }))];
        await Task.WhenAll(senders);
        Run();
        for (int v = 0xFF; v >= 0x20; v--)
        {
            Assert.Equal(v, Apic.Acknowledge());
            Apic.WriteRegister(Eoi, 0);
        }

        Assert.Equal(0x70, Host.Events.Count);
    }

    [Fact]
    public void A_software_disabled_APIC_drops_fixed_interrupts_and_masks_its_LVT()
    {
        Apic.WriteRegister(LvtTimer, 0x40);
        Apic.WriteRegister(Svr, 0xFF);
        Assert.Equal(0x40u | Masked, Apic.ReadRegister(LvtTimer));
        Apic.WriteRegister(LvtTimer, 0x40);
        Assert.Equal(0x40u | Masked, Apic.ReadRegister(LvtTimer));
        Deliver(0x51);
        Deliver(0, mode: DeliveryMode.Nmi);
        Apic.WriteRegister(Svr, 0x1FF);
        Assert.False(Apic.HasInterrupt);
        Assert.Equal(["NMI"], Host.Events);
    }

    [Fact]
    public void NMI_INIT_and_SIPI_reach_the_processor_in_order()
    {
        Apic.WriteRegister(Tpr, 0x20);
        Apic.Post(DeliveryMode.Init, 0, false);
        Apic.Post(DeliveryMode.StartUp, 0x9F, false);
        Apic.Post(DeliveryMode.Nmi, 0, false);
        Run();
        Assert.Equal(["INIT", "SIPI 9F", "NMI"], Host.Events);
        Assert.Equal((0u, 0xFFu), (Apic.ReadRegister(Tpr), Apic.ReadRegister(Svr)));
    }

    [Fact]
    public void An_INIT_cancels_an_earlier_start_up_message()
    {
        Apic.Post(DeliveryMode.StartUp, 0x10, false);
        Apic.Post(DeliveryMode.Init, 0, false);
        Run();
        Assert.Equal(["INIT"], Host.Events);
    }

    [Fact]
    public void ExtINT_passes_through_LINT0_whatever_the_priority()
    {
        Apic.WriteRegister(LvtLint0, 0x700);
        Apic.TaskPriority = 0xF0;
        Host.IsAsserted = true;
        Apic.Process();
        Assert.True(Host.InterruptPending);
        Assert.Equal(0x20, Apic.Acknowledge());
        Assert.False(Host.InterruptPending);
        Assert.Equal(0u, Apic.ReadRegister(Isr + 0x10));
        Apic.WriteRegister(LvtLint0, 0x700 | Masked);
        Host.IsAsserted = true;
        Apic.Process();
        Assert.False(Host.InterruptPending);
    }

    [Fact]
    public void The_bootstrap_processor_starts_with_a_virtual_wire_the_others_without()
    {
        (_, ScriptedApicHost bsp, ILocalApic first) = NewApic(0);
        (_, ScriptedApicHost ap, ILocalApic second) = NewApic(1);
        bsp.IsAsserted = ap.IsAsserted = true;
        first.Process();
        second.Process();
        Assert.Equal((true, false), (bsp.InterruptPending, ap.InterruptPending));
    }

    [Fact]
    public void A_hardware_disabled_APIC_connects_INTR_straight_to_the_processor()
    {
        Apic.WriteRegister(LvtLint0, Masked);
        Wrmsr(ApicBaseMsr, 0xFEE00100);
        Host.IsAsserted = true;
        Apic.Process();
        Assert.True(Host.InterruptPending);
        Assert.Equal(uint.MaxValue, Apic.ReadRegister(Svr));
        Assert.False(Apic.MatchesDestination(0, logical: false));
    }

    [Fact]
    public void LINT0_can_be_a_fixed_interrupt_by_edge_or_level()
    {
        Apic.WriteRegister(LvtLint0, 0x31);
        Host.IsAsserted = true;
        Apic.Process();
        Apic.Process();
        Assert.Equal(0x31, Apic.Acknowledge());
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(-1, Apic.Acknowledge());

        Apic.WriteRegister(LvtLint0, 0x31 | (1 << 15));
        Assert.Equal(0x31, Apic.Acknowledge());
        Assert.NotEqual(0u, Apic.ReadRegister(LvtLint0) & (1 << 14));
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(0x31, Apic.Acknowledge());
        Host.IsAsserted = false;
        Apic.WriteRegister(Eoi, 0);
        Assert.Equal(0u, Apic.ReadRegister(LvtLint0) & (1 << 14));
    }

    [Fact]
    public void Errors_show_after_a_write_of_ESR_and_interrupt_once()
    {
        Apic.WriteRegister(LvtError, 0x33);
        Deliver(0x0F);
        Deliver(0x0E);
        Assert.Equal(0u, Apic.ReadRegister(Esr));
        Assert.Equal(0x33, Apic.Acknowledge());
        Assert.Equal(-1, Apic.Acknowledge());
        Apic.WriteRegister(Eoi, 0);
        Apic.ReadRegister(0x3D0);
        Apic.WriteRegister(IcrLow, 0x0005);
        Apic.WriteRegister(Esr, 0);
        Assert.Equal(0xE0u, Apic.ReadRegister(Esr));
        Apic.WriteRegister(Esr, 0);
        Assert.Equal(0u, Apic.ReadRegister(Esr));
    }

    [Fact]
    public void ICR_sends_what_it_says()
    {
        Apic.WriteRegister(IcrHigh, 0x05000000);
        Apic.WriteRegister(IcrLow, 0x000840);
        Apic.WriteRegister(IcrLow, 0x0C4500);
        Apic.WriteRegister(IcrLow, 0x04060A | (1 << 14));
        Apic.WriteRegister(IcrLow, 0x08500);
        Assert.Equal(
            ["IPI Fixed 40 to 5 logical None", "IPI Init 00 to 5 physical AllExcludingSelf", "IPI StartUp 0A to 5 physical Self"],
            Host.Events);
        Assert.Equal(0x05000000u, Apic.ReadRegister(IcrHigh));
    }

    [Theory]
    [InlineData(0xF0000000u, 0x00000000u, 0x03u, true)]
    [InlineData(0xFFFFFFFFu, 0x02000000u, 0x03u, true)]
    [InlineData(0xFFFFFFFFu, 0x02000000u, 0x04u, false)]
    [InlineData(0xFFFFFFFFu, 0x02000000u, 0xFFu, true)]
    [InlineData(0x0FFFFFFFu, 0x32000000u, 0x32u, true)]
    [InlineData(0x0FFFFFFFu, 0x32000000u, 0x31u, false)]
    [InlineData(0x0FFFFFFFu, 0x32000000u, 0x22u, false)]
    [InlineData(0x0FFFFFFFu, 0x32000000u, 0xF2u, true)]
    public void Logical_destinations_in_flat_and_cluster_model(uint dfr, uint ldr, uint destination, bool matches)
    {
        Apic.WriteRegister(Dfr, dfr);
        Apic.WriteRegister(Ldr, ldr == 0 ? 0x01000000 : ldr);
        Assert.Equal(matches, Apic.MatchesDestination(destination, logical: true));
    }

    [Fact]
    public void Physical_destinations_are_the_id_or_the_broadcast()
    {
        (_, _, ILocalApic apic) = NewApic(7);
        Assert.True(apic.MatchesDestination(7, logical: false));
        Assert.True(apic.MatchesDestination(0xFF, logical: false));
        Assert.False(apic.MatchesDestination(6, logical: false));
    }
}
