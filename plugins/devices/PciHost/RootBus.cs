using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Devices.Pci;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;

namespace VirtPS.Device.PciHost;

/// <summary>Bus 0: 32 devices of 8 functions. Configuration cycles that nobody claims end in a master abort: reads give all ones (PCI Local Bus 3.0 §6.1).</summary>
internal sealed class RootBus : IPciBus
{
    private const int Devices = 32, Functions = 8;

    private readonly string _name;
    private readonly IPciFunction?[] _functions = new IPciFunction?[Devices * Functions];
    private readonly InterruptWire[] _wires;

    public RootBus(DeviceContext context)
    {
        _name = context.Name;
        _wires = new InterruptWire[PcLayout.PciGsiCount];
        for (int i = 0; i < _wires.Length; i++)
        {
            _wires[i] = new InterruptWire($"{context.Name} INTx {i}");
            _wires[i].Connect(new Forwarder(context.GlobalInterrupt(PcLayout.PciFirstGsi + i)), 0);
        }
    }

    public int Add(IPciFunction function, int? device = null, int functionNumber = 0)
    {
        if (device is < 0 or >= Devices)
            throw new VirtException("DevicePropertyInvalid", $"PCI device number {device} does not exist; there are 0 to {Devices - 1}.");
        if (functionNumber is < 0 or >= Functions)
            throw new VirtException("DevicePropertyInvalid", $"PCI function number {functionNumber} does not exist; there are 0 to {Functions - 1}.");
        int number = device ?? FirstFree();
        ref IPciFunction? slot = ref _functions[(number * Functions) + functionNumber];
        if (slot is not null)
            throw new VirtException("DeviceConflict", $"PCI device {number}, function {functionNumber}, is taken on '{_name}'.", "Choose another number, or none.");
        slot = function;
        return number;
    }

    public void Remove(IPciFunction function)
    {
        int index = Array.IndexOf(_functions, function);
        if (index >= 0)
            _functions[index] = null;
    }

    public InterruptLine GetPin(int device, int pin) => _wires[PcLayout.PciGsi(device, pin) - PcLayout.PciFirstGsi].CreateDriver();

    public uint Read(int device, int function, int offset, int size)
    {
        if (_functions[(device * Functions) + function] is not { } target)
            return uint.MaxValue;
        uint value = target.ReadConfig(offset, size);
        // Function 0 tells that there are more; a function itself cannot know.
        if (function == 0 && offset <= PciConfig.HeaderType && offset + size > PciConfig.HeaderType && HasMore(device))
            value |= (uint)PciConfig.MultiFunction << (8 * (PciConfig.HeaderType - offset));
        return value;
    }

    public void Write(int device, int function, int offset, int size, uint value) =>
        _functions[(device * Functions) + function]?.WriteConfig(offset, size, value);

    private bool HasMore(int device) => _functions.AsSpan((device * Functions) + 1, Functions - 1).ContainsAnyExcept((IPciFunction?)null);

    private int FirstFree()
    {
        for (int i = 0; i < Devices; i++)
        {
            if (!_functions.AsSpan(i * Functions, Functions).ContainsAnyExcept((IPciFunction?)null))
                return i;
        }

        throw new VirtException("DeviceConflict", $"All {Devices} device numbers of the PCI bus '{_name}' are taken.", "Remove a device.");
    }

    private sealed class Forwarder(InterruptLine line) : IInterruptInput
    {
        public void SetPin(int pin, bool level) => line.Set(level);
    }
}
