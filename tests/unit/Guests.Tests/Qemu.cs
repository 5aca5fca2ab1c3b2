using System.Diagnostics;
using System.Text;

namespace VirtPS.Guests.Tests;

/// <summary>QEMU (software emulation) running one image: the oracle for what our guests do on a PC.</summary>
internal sealed class Qemu : IDisposable
{
    private readonly Process _process;
    private readonly StringBuilder _output = new();
    private readonly Task _reader;

    public Qemu(byte[] image, string commandLine)
    {
        ImagePath = Path.Combine(Path.GetTempPath(), $"virtps-guest-{Guid.NewGuid():N}.elf");
        File.WriteAllBytes(ImagePath, image);
        var start = new ProcessStartInfo(Program!)
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        };
        foreach (string argument in (ReadOnlySpan<string>)["-accel", "tcg", "-m", "64", "-display", "none", "-nodefaults", "-serial", "stdio", "-no-reboot",
            "-kernel", ImagePath, "-append", commandLine])
            start.ArgumentList.Add(argument);
        _process = Process.Start(start)!;
        _reader = Task.Run(Read);
    }

    public static string? Program => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, "qemu-system-x86_64")).FirstOrDefault(File.Exists);

    public string ImagePath { get; }

    public string Output
    {
        get
        {
            lock (_output)
                return _output.ToString();
        }
    }

    public void Send(string text)
    {
        _process.StandardInput.Write(text);
        _process.StandardInput.Flush();
    }

    /// <summary>Waits until the guest has switched itself off (true) or the time is over.</summary>
    public bool WaitForEnd(TimeSpan timeout) => _process.WaitForExit(timeout) && _reader.Wait(timeout);

    public bool WaitForText(string text, TimeSpan timeout)
    {
        var watch = Stopwatch.StartNew();
        while (!Output.Contains(text, StringComparison.Ordinal))
        {
            if (watch.Elapsed > timeout || (_process.HasExited && _reader.IsCompleted && !Output.Contains(text, StringComparison.Ordinal)))
                return false;
            Thread.Sleep(10);
        }

        return true;
    }

    public void Dispose()
    {
        if (!_process.HasExited)
            _process.Kill();
        _process.WaitForExit();
        _process.Dispose();
        File.Delete(ImagePath);
    }

    private void Read()
    {
        char[] buffer = new char[1024];
        int n;
        while ((n = _process.StandardOutput.Read(buffer)) > 0)
        {
            lock (_output)
                _output.Append(buffer, 0, n);
        }
    }
}
