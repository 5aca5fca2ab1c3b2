using System.Buffers.Binary;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// The partition's kvmclock (KVM_GET_CLOCK, KVM_SET_CLOCK): VM time at the first start, from then on KVM counts it, and it stands still while the machine does. Never backwards: what it
/// showed at the pause is where it goes on. Thread-safe by its callers.
/// </summary>
internal sealed unsafe class KvmClock(int fd, bool canAdjust, ulong tscFrequency)
{
    private ulong? _stopped;
    private bool _started;

    public void Pause()
    {
        if (canAdjust && _started)
            _stopped = Read();
    }

    /// <summary>After the vCPUs' TSCs were set: KVM pairs the clock with them here.</summary>
    /// <param name="machineTsc">Ticks of VM time now.</param>
    public void Resume(ulong machineTsc)
    {
        if (!canAdjust)
            return;
        ulong now = _stopped ?? (ulong)((UInt128)machineTsc * 1_000_000_000 / tscFrequency);
        var data = new KvmClockData { Clock = now };
        KvmDevice.Must(LinuxCalls.Ioctl(fd, Kvm.SetClock, &data), "the time of its clock");
        (_stopped, _started) = (null, true);
    }

    public byte[] Save()
    {
        byte[] bytes = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, _stopped ?? (canAdjust ? Read() : 0));
        return bytes;
    }

    public void Restore(ReadOnlySpan<byte> state)
    {
        if (state.Length != sizeof(ulong))
            throw new VirtException("MachineStateInvalid", $"The saved clock has {state.Length} bytes; it needs {sizeof(ulong)}.");
        (_stopped, _started) = (BinaryPrimitives.ReadUInt64LittleEndian(state), true);
    }

    private ulong Read()
    {
        KvmClockData data;
        KvmDevice.Must(LinuxCalls.Ioctl(fd, Kvm.GetClock, &data), "the time of its clock");
        return data.Clock;
    }
}
