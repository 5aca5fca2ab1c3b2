using VirtPS.Device.Pic;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Devices.Tests.Pic;

public sealed class PicTests
{
    private readonly TestMachine _m;
    private readonly IntrOutput _intr;

    public PicTests()
    {
        (_m, _intr) = NewMachine();
        Make.Device<PicPlugin>(_m);
        Initialise(_m);
    }

    private IExternalInterruptSource Source => _m.Provided<IExternalInterruptSource>();

    private void Pin(int pin, bool level) => _m.Provided<IInterruptInput>("pic").SetPin(pin, level);

    [Fact]
    public void Before_initialisation_nothing_interrupts()
    {
        (TestMachine m, IntrOutput intr) = NewMachine();
        Make.Device<PicPlugin>(m);
        m.Provided<IInterruptInput>("pic").SetPin(1, true);
        Assert.False(intr.Level);
    }

    [Fact]
    public void A_master_interrupt_is_requested_acknowledged_and_ended()
    {
        Pin(4, true);
        Assert.True(_intr.Level);
        Assert.Equal(0x34, Source.Acknowledge());
        Assert.False(_intr.Level);
        Assert.Equal(0x10u, ReadIsr(0x20));
        _m.Out(0x20, 0x20);
        Assert.Equal(0u, ReadIsr(0x20));
        Assert.False(_intr.Level);
    }

    [Fact]
    public void A_slave_interrupt_comes_through_the_cascade()
    {
        Pin(8, true);
        Assert.Equal(0x38, Source.Acknowledge());
        Assert.Equal((0x04u, 0x01u), (ReadIsr(0x20), ReadIsr(0xA0)));
        Pin(12, true);
        Assert.False(_intr.Level);
        _m.Out(0xA0, 0x20);
        Assert.False(_intr.Level);
        _m.Out(0x20, 0x20);
        Assert.True(_intr.Level);
        Assert.Equal(0x3C, Source.Acknowledge());
    }

    [Fact]
    public void Lower_numbers_win_and_interrupt_those_in_service()
    {
        Pin(5, true);
        Assert.Equal(0x35, Source.Acknowledge());
        Pin(6, true);
        Assert.False(_intr.Level);
        Pin(1, true);
        Assert.True(_intr.Level);
        Assert.Equal(0x31, Source.Acknowledge());
        _m.Out(0x20, 0x20);
        Assert.Equal(0x20u, ReadIsr(0x20));
        Assert.False(_intr.Level);
        _m.Out(0x20, 0x20);
        Assert.Equal(0x36, Source.Acknowledge());
    }

    [Fact]
    public void Edge_inputs_interrupt_once_per_edge_level_inputs_as_long_as_high()
    {
        Pin(3, true);
        Source.Acknowledge();
        _m.Out(0x20, 0x20);
        Assert.False(_intr.Level);
        Pin(3, false);
        Pin(3, true);
        Assert.True(_intr.Level);
        Source.Acknowledge();
        _m.Out(0x20, 0x20);

        _m.Out(0x4D0, 0x20);
        Pin(5, true);
        Source.Acknowledge();
        _m.Out(0x20, 0x20);
        Assert.True(_intr.Level);
        Pin(5, false);
        Assert.False(_intr.Level);
    }

    [Fact]
    public void ELCR_cannot_make_the_system_inputs_level_triggered()
    {
        _m.Out(0x4D0, 0xFF);
        _m.Out(0x4D1, 0xFF);
        Assert.Equal((0xF8u, 0xDEu), (_m.In(0x4D0), _m.In(0x4D1)));
    }

    [Fact]
    public void A_request_gone_before_INTA_answers_with_spurious_IRQ7_and_sets_no_ISR_bit()
    {
        _m.Out(0x4D0, 0x20);
        Pin(5, true);
        Pin(5, false);
        Assert.Equal(0x37, Source.Acknowledge());
        Assert.Equal(0u, ReadIsr(0x20));
    }

    [Fact]
    public void A_slave_request_masked_before_INTA_answers_with_spurious_IRQ15_and_leaves_the_cascade_in_service()
    {
        Pin(14, true);
        _m.Out(0xA1, 0x40);
        Assert.Equal(0x3F, Source.Acknowledge());
        Assert.Equal((0x04u, 0u), (ReadIsr(0x20), ReadIsr(0xA0)));
    }

    [Fact]
    public void Masked_requests_wait_in_IRR()
    {
        _m.Out(0x21, 0x10);
        Pin(4, true);
        Assert.False(_intr.Level);
        _m.Out(0x20, 0x0A);
        Assert.Equal(0x10u, _m.In(0x20));
        _m.Out(0x21, 0);
        Assert.True(_intr.Level);
    }

    [Fact]
    public void Automatic_EOI_leaves_nothing_in_service_and_can_rotate()
    {
        Initialise(_m, icw4: 0x03);
        _m.Out(0x20, 0x80);
        Pin(3, true);
        Pin(4, true);
        Assert.Equal(0x33, Source.Acknowledge());
        Assert.Equal(0u, ReadIsr(0x20));
        Pin(3, false);
        Pin(3, true);
        // IRQ3 is the lowest now.
        Assert.Equal(0x34, Source.Acknowledge());
        Assert.Equal(0x33, Source.Acknowledge());
    }

    [Fact]
    public void Automatic_EOI_delivers_every_pending_slave_interrupt()
    {
        Initialise(_m, icw4: 0x03);
        Pin(8, true);
        Pin(9, true);
        Assert.Equal(0x38, Source.Acknowledge());
        Assert.True(_intr.Level);
        Assert.Equal(0x39, Source.Acknowledge());
        Assert.False(_intr.Level);
    }

    [Fact]
    public void Rotation_on_EOI_and_set_priority_change_the_order()
    {
        Pin(4, true);
        Source.Acknowledge();
        _m.Out(0x20, 0xA0);
        Pin(4, false);
        Pin(4, true);
        Pin(5, true);
        Assert.Equal(0x35, Source.Acknowledge());
        _m.Out(0x20, 0x60 | 5);
        _m.Out(0x20, 0xC0 | 3);
        Pin(3, true);
        Assert.Equal(0x34, Source.Acknowledge());
    }

    [Fact]
    public void Special_mask_mode_lets_lower_requests_through()
    {
        Pin(1, true);
        Source.Acknowledge();
        Pin(6, true);
        Assert.False(_intr.Level);
        _m.Out(0x21, 0x02);
        Assert.False(_intr.Level);
        _m.Out(0x20, 0x68);
        Assert.True(_intr.Level);
        Assert.Equal(0x36, Source.Acknowledge());
        _m.Out(0x20, 0x20);
        Assert.Equal(0x02u, ReadIsr(0x20));
    }

    [Fact]
    public void Special_fully_nested_mode_lets_the_slave_interrupt_itself()
    {
        Initialise(_m, icw4: 0x11);
        Pin(12, true);
        Assert.Equal(0x3C, Source.Acknowledge());
        Pin(9, true);
        Assert.True(_intr.Level);
        Assert.Equal(0x39, Source.Acknowledge());
    }

    [Fact]
    public void Poll_acknowledges_through_a_read()
    {
        Pin(6, true);
        _m.Out(0x20, 0x0C);
        Assert.Equal(0x86u, _m.In(0x20));
        Assert.Equal(0x40u, ReadIsr(0x20));
        _m.Out(0x20, 0x0C);
        Assert.Equal(0u, _m.In(0x20));
    }

    [Fact]
    public void ICW1_forgets_edges_masks_and_priorities()
    {
        _m.Out(0x21, 0xFF);
        _m.Out(0x20, 0xC3);
        Pin(4, true);
        Initialise(_m);
        Assert.False(_intr.Level);
        Assert.Equal(0u, _m.In(0x21));
        Pin(4, false);
        Pin(4, true);
        Assert.True(_intr.Level);
    }

    [Fact]
    public void Saved_in_mid_operation_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => NewMachine().Machine,
        m => Make.Device<PicPlugin>(m),
        m =>
        {
            Initialise(m);
            IInterruptInput pins = m.Provided<IInterruptInput>("pic");
            m.Out(0x4D1, 0x04);
            m.Out(0x20, 0xC2);
            foreach (int pin in (int[])[1, 4, 10, 12])
                pins.SetPin(pin, true);
            m.Provided<IExternalInterruptSource>().Acknowledge();
            m.Out(0x20, 0x11);
            m.Out(0x21, 0x50);
        },
        m =>
        {
            // In the middle of the initialisation sequence: ICW3 and ICW4 still to come.
            m.Out(0x21, 0x04);
            m.Out(0x21, 0x01);
            IInterruptInput pins = m.Provided<IInterruptInput>("pic");
            pins.SetPin(1, true);
            pins.SetPin(4, false);
            pins.SetPin(4, true);
            for (int i = 0; i < 5; i++)
            {
                m.Record($"vector {m.Provided<IExternalInterruptSource>().Acknowledge():X}");
                m.Out(0xA0, 0x20);
                m.Out(0x20, 0x20);
            }

            foreach (int port in (int[])[0x20, 0x21, 0xA0, 0xA1, 0x4D0, 0x4D1])
                m.In(port);
        });

    private static void Initialise(TestMachine m, uint icw4 = 0x01)
    {
        foreach ((int port, uint vector, uint cascade) in ((int, uint, uint)[])[(0x20, 0x30, 4), (0xA0, 0x38, 2)])
        {
            m.Out(port, 0x11);
            m.Out(port + 1, vector);
            m.Out(port + 1, cascade);
            m.Out(port + 1, icw4);
        }
    }

    private uint ReadIsr(int port)
    {
        _m.Out(port, 0x0B);
        return _m.In(port);
    }

    private static (TestMachine Machine, IntrOutput Intr) NewMachine()
    {
        TestMachine m = new() { DeviceName = "pic" };
        IntrOutput intr = new(m);
        m.Offer<IInterruptOutput>(intr);
        return (m, intr);
    }

    private sealed class IntrOutput(TestMachine machine) : IInterruptOutput
    {
        public bool Level { get; private set; }

        public void SetIntr(bool asserted)
        {
            Assert.NotEqual(Level, asserted);
            Level = asserted;
            machine.Record($"INTR {asserted}");
        }
    }
}
