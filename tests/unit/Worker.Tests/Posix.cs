using System.Runtime.InteropServices;

namespace VirtPS.Worker.Tests;

internal static class Posix
{
    public const int SIGTERM = 15, SIGSTOP = 19;

    [DllImport("libc", EntryPoint = "kill")]
    public static extern int Kill(int pid, int signal);
}
