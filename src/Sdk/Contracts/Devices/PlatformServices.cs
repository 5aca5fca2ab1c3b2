namespace VirtPS.Sdk.Devices;

/// <summary>The machine's power button, provided by the power-management device. Called under the device lock.</summary>
public interface IPowerButton
{
    /// <summary>A short press: PWRBTN_STS is set and, where the guest enabled it, the SCI raised (ACPI 6.5 §4.8.2.2.1).</summary>
    void Press();
}
