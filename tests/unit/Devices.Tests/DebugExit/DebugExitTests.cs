using VirtPS.Device.DebugExit;
using VirtPS.Sdk;

namespace VirtPS.Devices.Tests.DebugExit;

public sealed class DebugExitTests
{
    [Theory]
    [InlineData(0, 1)]
    [InlineData(0x10, 0x21)]
    [InlineData(0xFF, 0x1FF)]
    public void Writing_v_ends_with_v_doubled_plus_one(int value, int code)
    {
        (TestMachine m, RecordingMachineControl control) = RecordingMachineControl.NewMachine();
        Make.Device<DebugExitPlugin>(m);
        Assert.Equal(0u, m.In(0x501));
        m.Out(0x501, (uint)value);
        Assert.StartsWith($"off {code} ", Assert.Single(control.Requests));
    }

    [Fact]
    public void The_port_can_be_chosen()
    {
        (TestMachine m, RecordingMachineControl control) = RecordingMachineControl.NewMachine();
        Make.Device<DebugExitPlugin>(m, """{"port":244}""");
        m.Out(0x501, 1);
        Assert.Empty(control.Requests);
        m.Out(0xF4, 1, size: 4);
        Assert.Single(control.Requests);
        Assert.Throws<VirtException>(() => Make.Device<DebugExitPlugin>(m, """{"port":65536}"""));
    }

    [Fact]
    public void Its_empty_state_saves_and_restores()
    {
        using IDevice d = Make.Device<DebugExitPlugin>(new TestMachine());
        DeviceState state = d.Save();
        d.Restore(state);
        Assert.Throws<VirtException>(() => d.Restore(state with { SchemaVersion = 2 }));
    }
}
