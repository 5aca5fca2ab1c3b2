using System.Diagnostics;
using System.Globalization;
using System.Net.Sockets;
using System.Text;
using VirtPS.Engine;
using VirtPS.Sdk.Machine;

namespace VirtPS.Nested.Runner;

/// <summary>
/// The same kernel and initrd under our engine and under QEMU's microvm, both on this machine's KVM with one vCPU, in turn: from the first entry into the guest (ours: Resume of a machine
/// that was powered on paused; QEMU: <c>cont</c> after <c>-S</c>) to the initrd's line on the console. What comes before is told apart.
/// </summary>
internal static class BootBench
{
    private const string Qemu = "/usr/bin/qemu-system-x86_64", Marker = "GUEST-READY", CommandLine = "console=ttyS0 quiet nokaslr mitigations=off panic=-1";
    private const int Rounds = 3;

    private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(120);

    public static string Run(IMachineParts parts, string kernel, string initrd)
    {
        List<double> ours = [], theirs = [], ourStart = [], theirStart = [];
        for (int round = 0; round < Rounds; round++)
        {
            Ours(parts, kernel, initrd, ours, ourStart);
            Theirs(kernel, initrd, theirs, theirStart);
        }

        return string.Create(CultureInfo.InvariantCulture,
            $"ours {Median(ours):0.00} s ({Text(ours)}), QEMU microvm {Median(theirs):0.00} s ({Text(theirs)}); before the first entry: ours {Median(ourStart):0.00} s, QEMU's process {Median(theirStart):0.00} s");
    }

    private static void Ours(IMachineParts parts, string kernel, string initrd, List<double> times, List<double> starts)
    {
        var console = new TextConsole();
        var watch = Stopwatch.StartNew();
        using Machine machine = Guests.Build(parts, console, new BootConfiguration { Kind = BootKind.Linux, Kernel = kernel, Initrd = initrd, CommandLine = CommandLine }, 256 << 20, 1, "auto");
        machine.PowerOn(startPaused: true);
        starts.Add(watch.Elapsed.TotalSeconds);
        watch.Restart();
        machine.Resume();
        if (!console.WaitFor(Marker, machine, s_limit))
            throw new InvalidOperationException($"ours: {machine.State} {machine.StatusReason} {console.Text}");
        times.Add(watch.Elapsed.TotalSeconds);
    }

    private static void Theirs(string kernel, string initrd, List<double> times, List<double> starts)
    {
        const string Control = "/tmp/qmp";
        File.Delete(Control);
        var watch = Stopwatch.StartNew();
        using var process = Process.Start(new ProcessStartInfo(Qemu,
        [
            "-accel", "kvm", "-cpu", "host", "-M", "microvm", "-m", "256", "-smp", "1", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-S",
            "-qmp", $"unix:{Control},server,nowait", "-kernel", kernel, "-initrd", initrd, "-append", CommandLine,
        ]) { RedirectStandardOutput = true, RedirectStandardInput = true })!;
        try
        {
            using Socket control = Connect(Control, process);
            Ask(control, """{"execute":"qmp_capabilities"}""");
            starts.Add(watch.Elapsed.TotalSeconds);
            watch.Restart();
            Ask(control, """{"execute":"cont"}""");
            var text = new StringBuilder();
            while (process.StandardOutput.ReadLine() is { } line)
            {
                text.AppendLine(line);
                if (!line.Contains(Marker, StringComparison.Ordinal))
                    continue;
                times.Add(watch.Elapsed.TotalSeconds);
                return;
            }

            throw new InvalidOperationException($"QEMU ended before the guest was there: {text}");
        }
        finally
        {
            process.Kill();
            process.WaitForExit();
        }
    }

    private static Socket Connect(string path, Process process)
    {
        DateTime end = DateTime.UtcNow + s_limit;
        while (true)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                socket.Connect(new UnixDomainSocketEndPoint(path));
                return socket;
            }
            catch (SocketException) when (!process.HasExited && DateTime.UtcNow < end)
            {
                socket.Dispose();
                Thread.Sleep(10);
            }
        }
    }

    /// <summary>Sends a command and reads until something is answered to it.</summary>
    private static void Ask(Socket socket, string command)
    {
        socket.Send(Encoding.ASCII.GetBytes(command + "\n"));
        var buffer = new byte[4096];
        string text = "";
        while (!text.Contains("\"return\"", StringComparison.Ordinal))
        {
            int n = socket.Receive(buffer);
            text += n > 0 ? Encoding.ASCII.GetString(buffer, 0, n) : throw new InvalidOperationException("QEMU closed its control socket.");
        }
    }

    private static double Median(List<double> values) => values.Order().ElementAt((values.Count - 1) / 2);

    private static string Text(List<double> values) => string.Join(" ", values.Select(v => v.ToString("0.00", CultureInfo.InvariantCulture)));
}
