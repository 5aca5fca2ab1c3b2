using System.Text;
using VirtPS.Sdk;

namespace VirtPS.Client.Images;

/// <summary>How <see cref="BusyboxInitrd"/> greets.</summary>
public sealed record BusyboxInitrdOptions
{
    /// <summary>The line that says on the console that user space runs.</summary>
    public string Marker { get; init; } = "GUEST-READY";

    /// <summary>A shell script to run before the marker; null for none. When it ends with another code than 0, that is said on the console.</summary>
    public string? Script { get; init; }

    /// <summary>Kernel modules of this host's files (uncompressed .ko), loaded in this order before anything else; of the version of the kernel that will run.</summary>
    public IReadOnlyList<string> Modules { get; init; } = [];

    /// <summary>Power off when <see cref="Script"/> has run and the marker is printed, instead of giving a shell.</summary>
    public bool PowerOff { get; init; }
}

/// <summary>An initial RAM disk around a static busybox: mounts proc, sysfs and devtmpfs, prints a marker line, gives a shell on the console.</summary>
public static class BusyboxInitrd
{
    /// <summary>Permissions rwxr-xr-x.</summary>
    private const UnixFileMode Executable = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute | UnixFileMode.GroupRead
        | UnixFileMode.GroupExecute | UnixFileMode.OtherRead | UnixFileMode.OtherExecute;

    /// <summary>
    /// Builds it; the caller may add more before writing it. Errors: ImageNotFound; ImageInvalid for a file that is no x86-64 program, or one that needs shared libraries.
    /// </summary>
    public static InitrdBuilder Create(string busybox, BusyboxInitrdOptions? options = null)
    {
        options ??= new BusyboxInitrdOptions();
        var builder = new InitrdBuilder();
        foreach (string folder in (ReadOnlySpan<string>)["/bin", "/sbin", "/etc", "/dev", "/proc", "/sys", "/tmp", "/root", "/usr/bin", "/usr/sbin", "/run"])
            builder.AddFolder(folder);
        builder.AddHostFile("/bin/busybox", busybox, Executable);
        CheckProgram(busybox);
        builder.AddSymbolicLink("/bin/sh", "busybox");
        // The kernel opens /dev/console before /init could mount anything there.
        builder.AddCharacterDevice("/dev/console", 5, 1);
        builder.AddCharacterDevice("/dev/null", 1, 3);
        foreach (string module in options.Modules)
            builder.AddHostFile(ModulePath(module), module);
        if (options.Script is { } script)
            builder.AddText("/etc/start", script.StartsWith("#!", StringComparison.Ordinal) ? script : "#!/bin/sh\n" + script, Executable);
        builder.AddText("/init", InitScript(options), Executable);
        return builder;
    }

    private static string InitScript(BusyboxInitrdOptions options)
    {
        var text = new StringBuilder("""
            #!/bin/sh
            export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=linux
            /bin/busybox --install -s
            mount -t proc proc /proc
            mount -t sysfs sysfs /sys
            mount -t devtmpfs devtmpfs /dev 2>/dev/null
            # There is no init daemon to be told: what the kernel runs when somebody asks the guest to stop, and what people type, do it themselves.
            for c in poweroff reboot halt; do
                rm -f /sbin/$c && printf '#!/bin/sh\numount -a -r 2>/dev/null\nexec /bin/busybox %s -f\n' $c > /sbin/$c && chmod 755 /sbin/$c
                # The shell takes busybox's own before any file.
                echo "alias $c=/sbin/$c" >> /etc/shrc
            done
            export ENV=/etc/shrc
            mkdir -p /dev/pts && mount -t devpts devpts /dev/pts 2>/dev/null

            """);
        foreach (string module in options.Modules)
            text.AppendLine($"insmod {Quote(ModulePath(module))} || echo {Quote($"The kernel module {Path.GetFileName(module)} cannot be loaded: is it of this kernel's version?")}");
        if (options.Script is not null)
            text.AppendLine("/etc/start || echo \"start script ended with code $?\"");
        text.AppendLine($"echo {Quote(options.Marker)} \"Linux $(uname -r), $(nproc) CPU(s), $(grep MemTotal /proc/meminfo | tr -s ' ' | cut -d' ' -f2) kB\"");
        if (!options.PowerOff)
        {
            text.AppendLine("# A short process now and then: a guest at its prompt still crosses its rings, so a trace of it shows something.");
            text.AppendLine("while sleep 3; do :; done </dev/null &");
            text.AppendLine("cd /root");
            text.AppendLine("# A session of its own gives the shell its controlling terminal: Ctrl-C works.");
            text.AppendLine("setsid cttyhack sh");
        }

        text.AppendLine("poweroff -f");
        return text.ToString();
    }

    private static string ModulePath(string module) => "/lib/modules/" + Path.GetFileName(module);

    private static string Quote(string text) => "'" + text.Replace("'", "'\\''", StringComparison.Ordinal) + "'";

    /// <summary>An ELF64 program for x86-64 without an interpreter segment, which is what dynamic linking would need.</summary>
    private static void CheckProgram(string path)
    {
        byte[] header = new byte[4096];
        int length;
        try
        {
            using FileStream file = new(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
            length = file.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.AccessDenied, $"'{path}' cannot be read: {e.Message}", "Check the file's permissions.", path, e);
        }

        const string remedy = "Use a statically linked busybox for x86-64 (Debian: package busybox-static).";
        if (length < 64 || !header.AsSpan(0, 4).SequenceEqual("\u007fELF"u8) || header[4] != 2 || BitConverter.ToUInt16(header, 18) != 62)
            throw new VirtException(ErrorIds.ImageInvalid, $"'{path}' is not a program for x86-64.", remedy, path);
        ulong table = BitConverter.ToUInt64(header, 32);
        int size = BitConverter.ToUInt16(header, 54), count = BitConverter.ToUInt16(header, 56);
        for (int i = 0; i < count && table + (ulong)((i + 1) * size) <= (ulong)length; i++)
        {
            const int interpreter = 3;
            if (BitConverter.ToUInt32(header, (int)table + (i * size)) == interpreter)
                throw new VirtException(ErrorIds.ImageInvalid, $"'{path}' needs shared libraries, which the initrd does not have.", remedy, path);
        }
    }
}
