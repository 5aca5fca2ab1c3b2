using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Worker.Hosting;

/// <summary>
/// Makes the process independent of who started it: own session, no signals from its terminal, none of its descriptors. Once, early, from Main. Does nothing on
/// Windows, where a process started without inherited handles is independent (unproven).
/// </summary>
internal static partial class ProcessSetup
{
    private const int FirstFreeDescriptor = 3;

    [LibraryImport("libc", EntryPoint = "setsid", SetLastError = true)]
    private static partial int SetSid();

    // fcntl is variadic; on Linux a variadic call with integers passes them as a plain call does. On Apple's Arm64 it does not, and there close-on-exec
    // cannot be asked this way: see CloseInherited.
    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int Fcntl(int fd, int command, int argument);

    [LibraryImport("libc", EntryPoint = "dup2", SetLastError = true)]
    private static partial int Dup2(int from, int to);

    [LibraryImport("libc", EntryPoint = "dup3", SetLastError = true)]
    private static partial int Dup3(int from, int to, int flags);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int fd);

    /// <summary>Own session; the terminal's and the session's ends are not ours. SIGTERM calls <paramref name="terminate"/>.</summary>
    public static IDisposable Detach(Action terminate)
    {
        if (!OperatingSystem.IsWindows())
        {
            // Fails when we lead a group already (started by hand): then there is nothing to leave.
            _ = SetSid();
            CloseInherited();
        }

        return new Registrations(
        [
            PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = true),
            PosixSignalRegistration.Create(PosixSignal.SIGHUP, context => context.Cancel = true),
            PosixSignalRegistration.Create(PosixSignal.SIGTERM, context =>
            {
                context.Cancel = true;
                terminate();
            }),
        ]);
    }

    /// <summary>Takes the starter's pipe off descriptor 1, as a stream of its own that no child of ours inherits.</summary>
    public static Stream TakeReportPipe()
    {
        if (!OperatingSystem.IsLinux())
            return System.Console.OpenStandardOutput();
        const int F_DUPFD_CLOEXEC = 1030;
        int fd = Fcntl(1, F_DUPFD_CLOEXEC, FirstFreeDescriptor);
        if (fd < 0)
            throw new IOException($"Standard output cannot be used: {Marshal.GetLastPInvokeErrorMessage()}");
        return new FileStream(new SafeFileHandle(fd, ownsHandle: true), FileAccess.Write, bufferSize: 0);
    }

    /// <summary>
    /// Puts descriptor 0 on /dev/null, 1 and 2 on the log: from here on nothing of the starter's is open, and what the runtime itself says when it dies is kept. The
    /// runtime has duplicates of all three (made while it starts), which must go the same way: they too would keep the starter's pipes open.
    /// </summary>
    public static void RedirectStandardDescriptors(SafeFileHandle log, Stream? keep)
    {
        if (OperatingSystem.IsWindows())
            return;
        using SafeFileHandle nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite);
        int kept = keep is FileStream file ? (int)file.SafeFileHandle.DangerousGetHandle() : -1;
        List<int>[] targets = FindDuplicates(kept);
        for (int fd = 0; fd < FirstFreeDescriptor; fd++)
        {
            SafeFileHandle source = fd == 0 ? nothing : log;
            Replace(source, fd, closeOnExec: false);
            foreach (int duplicate in targets[fd])
                Replace(source, duplicate, closeOnExec: true);
        }
    }

    /// <summary>For each standard descriptor those from 3 up that are the same pipe, file or terminal. Each descriptor is looked at once: a worker has some 80 when it starts.</summary>
    private static List<int>[] FindDuplicates(int kept)
    {
        List<int>[] same = [[], [], []];
        if (!OperatingSystem.IsLinux())
            return same;
        string?[] standard = [TargetOf(0), TargetOf(1), TargetOf(2)];
        foreach (int fd in OpenDescriptors())
        {
            if (fd < FirstFreeDescriptor || fd == kept || TargetOf(fd) is not { } target)
                continue;
            for (int i = 0; i < FirstFreeDescriptor; i++)
            {
                if (standard[i] == target)
                    same[i].Add(fd);
            }
        }

        return same;
    }

    private static string? TargetOf(int fd)
    {
        try
        {
            return new FileInfo($"/proc/self/fd/{fd}").LinkTarget;
        }
        catch (IOException)
        {
            // Closed while we looked.
            return null;
        }
    }

    private static IEnumerable<int> OpenDescriptors() =>
        Directory.GetFileSystemEntries("/proc/self/fd").Select(e => int.Parse(Path.GetFileName(e.AsSpan()), CultureInfo.InvariantCulture));

    private static void Replace(SafeFileHandle source, int target, bool closeOnExec)
    {
        const int O_CLOEXEC = 0x80000;
        bool added = false;
        source.DangerousAddRef(ref added);
        try
        {
            int from = (int)source.DangerousGetHandle();
            if (from != target && (closeOnExec ? Dup3(from, target, O_CLOEXEC) : Dup2(from, target)) < 0)
                throw new IOException($"Descriptor {target} cannot be replaced: {Marshal.GetLastPInvokeErrorMessage()}");
        }
        finally
        {
            if (added)
                source.DangerousRelease();
        }
    }

    /// <summary>
    /// Closes what the starter leaked into us. Everything that this process opened itself is close-on-exec (.NET and its runtime open nothing else), and
    /// nothing that is close-on-exec can have been inherited: so the flag tells them apart.
    /// </summary>
    private static void CloseInherited()
    {
        const int F_GETFD = 1, FD_CLOEXEC = 1;
        if (!OperatingSystem.IsLinux())
            return;
        foreach (int fd in OpenDescriptors())
        {
            int flags = fd < FirstFreeDescriptor ? -1 : Fcntl(fd, F_GETFD, 0);
            if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
                _ = Close(fd);
        }
    }

    private sealed class Registrations(PosixSignalRegistration[] registrations) : IDisposable
    {
        public void Dispose()
        {
            foreach (PosixSignalRegistration registration in registrations)
                registration.Dispose();
        }
    }
}
