using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace VirtPS.Client.Platform;

/// <summary>Which host, which boot of it, which process: what makes a stored process id mean something.</summary>
internal static class HostIdentity
{
    /// <summary>Tolerance where a boot can only be told by its time.</summary>
    private const long BootTimeToleranceSeconds = 120;

    /// <summary>Stable over restarts; does not give the machine id away (machine-id(5) asks for that).</summary>
    public static string GetHostId()
    {
        string seed = ReadFirstLine("/etc/machine-id") ?? ReadFirstLine("/var/lib/dbus/machine-id") ?? Environment.MachineName;
        return new Guid(SHA256.HashData(Encoding.UTF8.GetBytes("VirtPS host " + seed)).AsSpan(0, 16)).ToString();
    }

    /// <summary>Differs after each restart of the host.</summary>
    public static string GetBootId() =>
        ReadFirstLine("/proc/sys/kernel/random/boot_id")
        ?? string.Create(CultureInfo.InvariantCulture, $"time:{DateTimeOffset.UtcNow.ToUnixTimeSeconds() - (Environment.TickCount64 / 1000)}");

    /// <summary>Whether <paramref name="bootId"/> means the present boot.</summary>
    public static bool IsThisBoot(string bootId)
    {
        string now = GetBootId();
        return bootId == now || (TryBootTime(bootId, out long a) && TryBootTime(now, out long b) && Math.Abs(a - b) <= BootTimeToleranceSeconds);
    }

    /// <summary>
    /// When a process started, in the host's own unit (Linux: clock ticks since boot, proc(5) field 22; else .NET ticks). Null when there is no such process or
    /// it has ended and only waits to be collected.
    /// </summary>
    public static long? GetProcessStartTime(int pid)
    {
        if (OperatingSystem.IsLinux())
        {
            string stat;
            try
            {
                stat = File.ReadAllText($"/proc/{pid}/stat");
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                return null;
            }

            // The name in parentheses may itself hold spaces and parentheses.
            string[] fields = stat[(stat.LastIndexOf(')') + 2)..].Split(' ');
            return fields[0] is "Z" or "X" ? null : long.Parse(fields[19], CultureInfo.InvariantCulture);
        }

        try
        {
            using var process = Process.GetProcessById(pid);
            return process.HasExited ? null : process.StartTime.ToUniversalTime().Ticks;
        }
        catch (Exception e) when (e is ArgumentException or InvalidOperationException or System.ComponentModel.Win32Exception)
        {
            return null;
        }
    }

    private static bool TryBootTime(string bootId, out long seconds)
    {
        seconds = 0;
        return bootId.StartsWith("time:", StringComparison.Ordinal) && long.TryParse(bootId.AsSpan(5), CultureInfo.InvariantCulture, out seconds);
    }

    private static string? ReadFirstLine(string path)
    {
        try
        {
            return File.ReadLines(path).FirstOrDefault()?.Trim() is { Length: > 0 } line ? line : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }
    }
}
