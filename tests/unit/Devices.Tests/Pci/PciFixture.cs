using VirtPS.Device.PciHost;

namespace VirtPS.Devices.Tests.Pci;

/// <summary>A machine with a host bridge, and the guest's way into configuration space.</summary>
public abstract class PciFixture
{
    private protected PciFixture() => (M, Control) = NewMachine();

    private protected TestMachine M { get; }

    private protected RecordingMachineControl Control { get; }

    private protected static (TestMachine Machine, RecordingMachineControl Control) NewMachine()
    {
        (TestMachine machine, RecordingMachineControl control) = RecordingMachineControl.NewMachine();
        Make.Device<PciHostPlugin>(machine);
        return (machine, control);
    }

    private protected static uint Read(TestMachine m, int device, int offset, int size = 4, int function = 0, int bus = 0)
    {
        m.Out(0xCF8, 0x8000_0000 | ((uint)bus << 16) | ((uint)device << 11) | ((uint)function << 8) | ((uint)offset & 0xFC), 4);
        return m.In(0xCFC + (offset & 3), size);
    }

    private protected static void Write(TestMachine m, int device, int offset, uint value, int size = 4, int function = 0)
    {
        m.Out(0xCF8, 0x8000_0000 | ((uint)device << 11) | ((uint)function << 8) | ((uint)offset & 0xFC), 4);
        m.Out(0xCFC + (offset & 3), value, size);
    }

    private protected uint Read(int device, int offset, int size = 4, int function = 0, int bus = 0) => Read(M, device, offset, size, function, bus);

    private protected void Write(int device, int offset, uint value, int size = 4, int function = 0) => Write(M, device, offset, value, size, function);

    /// <summary>Offset of a capability by its id, found by walking the list.</summary>
    private protected static int FindCapability(TestMachine m, int device, int id)
    {
        Assert.NotEqual(0u, Read(m, device, 0x06, 2) & 0x10);
        int offset = (int)Read(m, device, 0x34, 1);
        while (offset != 0 && Read(m, device, offset, 1) != id)
            offset = (int)Read(m, device, offset + 1, 1);
        Assert.NotEqual(0, offset);
        return offset;
    }
}
