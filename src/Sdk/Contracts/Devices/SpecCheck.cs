namespace VirtPS.Sdk.Devices;

/// <summary>Checks of spec properties with the one error that users should see.</summary>
public static class SpecCheck
{
    /// <summary>Throws <see cref="VirtException"/> (<c>DevicePropertyInvalid</c>) unless <paramref name="min"/> ≤ value ≤ <paramref name="max"/>.</summary>
    public static T Range<T>(DeviceContext context, string property, T value, T min, T max) where T : IComparable<T> =>
        value.CompareTo(min) >= 0 && value.CompareTo(max) <= 0
            ? value
            : throw Invalid(context, property, value, $"It must be from {min} to {max}.");

    /// <summary>Throws unless the value is one of <paramref name="allowed"/>.</summary>
    public static string OneOf(DeviceContext context, string property, string value, params string[] allowed) =>
        allowed.Contains(value, StringComparer.OrdinalIgnoreCase)
            ? value.ToLowerInvariant()
            : throw Invalid(context, property, value, $"It must be one of: {string.Join(", ", allowed)}.");

    /// <summary>The error itself, for other checks.</summary>
    public static VirtException Invalid(DeviceContext context, string property, object? value, string rule) =>
        new("DevicePropertyInvalid", $"Device '{context.Name}': property '{property}' is '{value}'. {rule}", "Get-VirtDeviceModel lists the properties and what they may be.", context.Name);
}
