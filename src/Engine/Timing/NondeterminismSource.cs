using System.Diagnostics;
using VirtPS.Engine.Host;

namespace VirtPS.Engine;

/// <summary>
/// The one choke point through which what is not deterministic reaches a guest: host time, randomness, completions of host work, and the points at which
/// interrupts are delivered. This class takes them from the host; a recorder or replayer overrides it. Thread-safe.
/// </summary>
public class NondeterminismSource
{
    /// <summary>Monotonic host time in nanoseconds, from an arbitrary start.</summary>
    public virtual ulong HostNanoseconds => Stopwatch.Frequency == 1_000_000_000 ? (ulong)Stopwatch.GetTimestamp() : ScaledTimestamp();

    /// <summary>The host's date, read once at power-on.</summary>
    public virtual DateTimeOffset UtcNow => DateTimeOffset.UtcNow;

    /// <summary>Randomness that a guest will see.</summary>
    public virtual void FillRandom(Span<byte> destination) => HostRandom.Fill(destination);

    /// <summary>
    /// A completion of host work is about to reach a device, under the device lock; <paramref name="now"/> is VM time. A recorder notes it, a replayer decides
    /// when to call <paramref name="completion"/>.
    /// </summary>
    public virtual void Deliver(Action completion, ulong now) => completion();

    /// <summary>An interrupt is injected into a vCPU after that many retired instructions. Called on the vCPU's thread.</summary>
    public virtual void InterruptDelivered(int vcpu, byte vector, ulong instructionsRetired)
    {
    }

    // Apart, because what uses UInt128 is not compiled ahead of time.
    private static ulong ScaledTimestamp() => (ulong)((UInt128)(ulong)Stopwatch.GetTimestamp() * 1_000_000_000 / (ulong)Stopwatch.Frequency);
}
