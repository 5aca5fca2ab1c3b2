using VirtPS.Sdk.Memory;

namespace VirtPS.Engine.Host;

/// <summary>Everything the engine asks of the operating system, in one place. Thread-safe.</summary>
public interface IHostPlatform
{
    /// <summary><c>Linux</c>, or <c>Portable</c> for hosts where VirtPS is unproven.</summary>
    string Name { get; }

    /// <summary>Zeroed memory that costs nothing until it is touched. Size is a multiple of 4096. Throws <see cref="Sdk.VirtException"/> (<c>MemoryUnavailable</c>).</summary>
    IHostMemoryRegion AllocateGuestMemory(string name, ulong size);

    /// <summary>A wake-up signal for one waiting thread.</summary>
    HostEvent CreateEvent();

    /// <summary>Called by a thread that must wake on time: asks for the finest timer resolution.</summary>
    void PrepareTimingThread();

    /// <summary>How long the calling thread has been ready to run without getting a processor, from its start; null where the host does not tell.</summary>
    HostRunDelay? OpenRunDelay() => null;

    /// <summary>
    /// Opens a disk's file and locks it: for this process alone, or, read-only, together with other readers. Throws <see cref="Sdk.VirtException"/> that names the
    /// file: <c>DiskNotFound</c>, <c>DiskInvalid</c> (not a regular file), <c>DiskInUse</c>, <c>AccessDenied</c>.
    /// </summary>
    HostDiskFile OpenDiskFile(string path, bool readOnly);

    /// <summary>Bytes of RAM in this host.</summary>
    ulong PhysicalMemory { get; }
}

/// <summary>An auto-reset signal: sets that come while nobody waits are remembered as one. One waiter, any number of setters.</summary>
public abstract class HostEvent : IDisposable
{
    /// <summary>Waits for a signal at most so many nanoseconds; <see cref="ulong.MaxValue"/> = for ever. True when signalled. Never returns early for another reason than a signal.</summary>
    public abstract bool Wait(ulong nanoseconds);

    /// <summary>Signals. Cheap when nobody waits.</summary>
    public abstract void Set();

    public abstract void Dispose();
}

/// <summary>A thread's waiting for a processor. Used by one thread.</summary>
public abstract class HostRunDelay : IDisposable
{
    /// <summary>Nanoseconds since the thread began; never less than before.</summary>
    public abstract ulong Read();

    public abstract void Dispose();
}
