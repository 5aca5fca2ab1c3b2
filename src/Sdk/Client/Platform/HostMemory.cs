using System.Globalization;

namespace VirtPS.Client.Platform;

/// <summary>RAM of this host, in bytes.</summary>
internal static class HostMemory
{
    /// <summary>What there is, and what could be had now without swapping.</summary>
    public static (ulong Total, ulong Available) Read()
    {
        ulong total = 0, available = 0;
        if (OperatingSystem.IsLinux())
        {
            foreach (string line in File.ReadLines("/proc/meminfo"))
            {
                if (line.StartsWith("MemTotal:", StringComparison.Ordinal))
                    total = Kilobytes(line);
                else if (line.StartsWith("MemAvailable:", StringComparison.Ordinal))
                    available = Kilobytes(line);
                if (total != 0 && available != 0)
                    return (total, available);
            }
        }

        GCMemoryInfo info = GC.GetGCMemoryInfo();
        return ((ulong)info.TotalAvailableMemoryBytes, (ulong)Math.Max(0, info.TotalAvailableMemoryBytes - info.MemoryLoadBytes));
    }

    private static ulong Kilobytes(string line) => ulong.Parse(line.AsSpan(line.IndexOf(':') + 1).Trim().TrimEnd("kB "), CultureInfo.InvariantCulture) * 1024;
}
