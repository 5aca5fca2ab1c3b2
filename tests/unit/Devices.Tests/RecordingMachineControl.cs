namespace VirtPS.Devices.Tests;

/// <summary>What the guest did to its machine.</summary>
internal sealed class RecordingMachineControl(TestMachine machine) : IMachineControl
{
    public List<string> Requests { get; } = [];

    public bool A20 { get; set; }

    public int VcpuCount { get; init; } = 1;

    public void RequestPowerOff(string reason, int? exitCode = null) => Add($"off {exitCode} {reason}");

    public void RequestReset(string reason) => Add($"reset {reason}");

    public static (TestMachine Machine, RecordingMachineControl Control) NewMachine()
    {
        TestMachine machine = new();
        RecordingMachineControl control = new(machine);
        machine.Offer<IMachineControl>(control);
        return (machine, control);
    }

    private void Add(string request)
    {
        Requests.Add(request);
        machine.Record(request);
    }
}
