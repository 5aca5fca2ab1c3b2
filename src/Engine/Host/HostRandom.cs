using System.Security.Cryptography;

namespace VirtPS.Engine.Host;

/// <summary>The host's randomness, from its kernel: what .NET has brings OpenSSL up first, which costs a starting machine milliseconds. Thread-safe.</summary>
internal static class HostRandom
{
    /// <summary>Bytes that nobody can guess. Before the host's generator has been seeded, once after power-on, it waits.</summary>
    public static unsafe void Fill(Span<byte> destination)
    {
        // getrandom(2): up to so many bytes come all at once, whatever signal arrives.
        const int Whole = 256;
        while (OperatingSystem.IsLinux() && destination.Length > 0)
        {
            int count = Math.Min(destination.Length, Whole);
            fixed (byte* p = destination)
            {
                if (LinuxNative.GetRandom(p, (nuint)count, 0) != count)
                    break;
            }

            destination = destination[count..];
        }

        if (destination.Length > 0)
            RandomNumberGenerator.Fill(destination);
    }
}
