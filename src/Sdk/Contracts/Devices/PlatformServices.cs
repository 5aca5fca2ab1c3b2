namespace VirtPS.Sdk.Devices;

/// <summary>The machine's power button, provided by the power-management device. Called under the device lock.</summary>
public interface IPowerButton
{
    /// <summary>A short press: PWRBTN_STS is set and, where the guest enabled it, the SCI raised (ACPI 6.5 §4.8.2.2.1).</summary>
    void Press();
}

/// <summary>The general-purpose event block of the power-management device (ACPI 6.5 §4.8.4.1), for devices that notify through ACPI. Called under the device lock.</summary>
public interface IGeneralPurposeEvents
{
    /// <summary>Sets the status bit of GPE <paramref name="index"/> (0–15); where the guest enabled it, the SCI is raised. Throws <see cref="ArgumentOutOfRangeException"/>.</summary>
    void Raise(int index);
}
