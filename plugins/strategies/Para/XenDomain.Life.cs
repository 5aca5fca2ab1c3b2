using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Para;

// The domain as a device of its machine.
internal sealed unsafe partial class XenDomain
{
    public void Reset(ResetKind kind)
    {
        Area.Reset();
        Frames.Reset();
        Ports.Reset();
        Grants.Reset();
        Store.Reset();
    }

    public void Load(GuestLoad load) => throw new Sdk.VirtException("ImageInvalid", "The strategy Para cannot load guests yet.");

    public void Process(int vcpu)
    {
    }

    public void Quiesce()
    {
    }

    public DeviceState Save() => throw new Sdk.VirtException("DeviceStateInvalid", "A Xen domain cannot be saved.", "Shut the guest down.");

    public void Restore(DeviceState state) => throw new Sdk.VirtException("DeviceStateInvalid", "A Xen domain cannot be restored.");

    public void Resume()
    {
    }

    public void Dispose()
    {
        Console.Dispose();
        Frames.Dispose();
    }
}
