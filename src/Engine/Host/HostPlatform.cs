namespace VirtPS.Engine.Host;

/// <summary>Picks the host layer of this operating system.</summary>
public static class HostPlatform
{
    /// <summary>Linux gets its own; everything else the portable one, which is unproven.</summary>
    public static IHostPlatform Create() => OperatingSystem.IsLinux() && LinuxNative.FutexNumber is not null ? new LinuxHostPlatform() : new PortableHostPlatform();
}
