using System.Buffers.Binary;
using VirtPS.Sdk;
using VirtPS.Sdk.Interrupts;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// KVM's own PIC pair, IOAPIC, local APICs and PIT (Documentation/virt/kvm/api.rst, KVM_CREATE_IRQCHIP, KVM_CREATE_PIT2). Created before the first vCPU. Their timers run on the host's
/// time: while the machine is paused they are stopped, and go on with what was left of their counts.
/// </summary>
internal sealed unsafe class KvmInterruptController : IPartitionInterruptController
{
    /// <summary>What the machine's wires use; MSIs by file descriptor have numbers above.</summary>
    private const int Pins = 24;

    private const int TimerPin = 2, IsaCount = 16, PicPins = 8;
    private const byte PitStopped = 0xFF;
    private const int SchemaVersion = 1;

    private static readonly uint[] s_chips = [Kvm.ChipPicMaster, Kvm.ChipPicSlave, Kvm.ChipIoApic];

    private readonly int _fd;
    private readonly KvmPartition _partition;
    private readonly Lock _gate = new();
    private readonly List<KvmIrqRoute> _wires = [];
    private readonly SortedDictionary<uint, MsiMessage?> _signals = [];
    private readonly KvmIrqchip[] _initialChips = new KvmIrqchip[s_chips.Length];
    private readonly KvmPitState2 _initialPit;
    private readonly int _maxRoutes;

    // Null while it runs.
    private KvmPitState2? _stoppedPit;

    public KvmInterruptController(KvmPartition partition, KvmDevice device)
    {
        (_partition, _fd, _maxRoutes) = (partition, partition.Fd, device.Check(Kvm.CapIrqRouting));
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.CreateIrqchip, (nuint)0), "its interrupt controllers");
        var config = new KvmPitConfig { Flags = Kvm.PitSpeakerDummy };
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.CreatePit2, &config), "its timer");
        AddWires();
        WriteRoutes();
        for (int i = 0; i < s_chips.Length; i++)
            _initialChips[i] = ReadChip(s_chips[i]);
        _initialPit = ReadPit();
    }

    /// <summary>What KVM needs for this: all or nothing.</summary>
    public static bool IsOffered(KvmDevice device)
    {
        ReadOnlySpan<int> needed = [Kvm.CapIrqchip, Kvm.CapPit2, Kvm.CapPitState2, Kvm.CapIrqRouting, Kvm.CapSignalMsi, Kvm.CapMpState, Kvm.CapAdjustClock];
        foreach (int capability in needed)
        {
            if (device.Check(capability) == 0)
                return false;
        }

        return true;
    }

    public int PinCount => Pins;

    public void SetPin(int pin, bool level)
    {
        var line = new KvmIrqLevel { Irq = (uint)pin, Level = level ? 1u : 0 };
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.IrqLine, &line), $"a level of pin {pin}");
    }

    /// <summary>A message that no local APIC takes is lost, as on the bus.</summary>
    public void Send(MsiMessage message)
    {
        var msi = new KvmMsi { AddressLow = (uint)message.Address, AddressHigh = (uint)(message.Address >> 32), Data = message.Data };
        _ = LinuxCalls.Ioctl(_fd, Kvm.SignalMsi, &msi);
    }

    public byte GetTaskPriority(int vcpu) => _partition.Vcpus[vcpu].LocalApic!.TaskPriority;

    public IMsiSignal? CreateMsiSignal()
    {
        lock (_gate)
        {
            uint gsi = Pins;
            while (_signals.ContainsKey(gsi))
                gsi++;
            if (gsi >= _maxRoutes || _partition.Device.Check(Kvm.CapIrqfd) == 0)
                return null;
            var signal = new KvmMsiSignal(this, gsi);
            _signals.Add(gsi, null);
            return signal;
        }
    }

    public void Reset()
    {
        foreach (KvmVcpu vcpu in _partition.Vcpus)
            vcpu.LocalApic!.Reset();
        foreach (KvmIrqchip chip in _initialChips)
            WriteChip(chip);
        if (_stoppedPit is null)
            WritePit(_initialPit);
        else
            _stoppedPit = _initialPit;
    }

    /// <summary>Stops the timer's interrupts; its counts stand.</summary>
    public void Pause()
    {
        if (_stoppedPit is null)
        {
            KvmPitState2 stopped = ReadPit();
            _stoppedPit = stopped;
            stopped.Channels[KvmPitState2.ModeOffset] = PitStopped;
            WritePit(stopped);
        }

        foreach (KvmVcpu vcpu in _partition.Vcpus)
            vcpu.LocalApic!.Pause();
    }

    public void Resume()
    {
        foreach (KvmVcpu vcpu in _partition.Vcpus)
            vcpu.LocalApic!.Resume();
        if (_stoppedPit is not { } pit)
            return;
        _stoppedPit = null;
        WritePit(pit);
    }

    /// <summary>A schema number and a count of vCPUs, then chips, timer and local APICs, each as KVM gives it.</summary>
    public byte[] Save()
    {
        using var stream = new MemoryStream();
        Span<byte> header = stackalloc byte[8];
        BinaryPrimitives.WriteInt32LittleEndian(header, SchemaVersion);
        BinaryPrimitives.WriteInt32LittleEndian(header[4..], _partition.Vcpus.Count);
        stream.Write(header);
        foreach (uint number in s_chips)
        {
            KvmIrqchip chip = ReadChip(number);
            stream.Write(new ReadOnlySpan<byte>(&chip, sizeof(KvmIrqchip)));
        }

        KvmPitState2 pit = _stoppedPit ?? ReadPit();
        stream.Write(new ReadOnlySpan<byte>(&pit, sizeof(KvmPitState2)));
        foreach (KvmVcpu vcpu in _partition.Vcpus)
            vcpu.LocalApic!.Save(stream);
        return stream.ToArray();
    }

    public void Restore(ReadOnlySpan<byte> state)
    {
        int expected = 8 + s_chips.Length * sizeof(KvmIrqchip) + sizeof(KvmPitState2) + _partition.Vcpus.Count * KvmLocalApic.SavedSize;
        if (state.Length < 8 || BinaryPrimitives.ReadInt32LittleEndian(state) != SchemaVersion)
            throw new VirtException("MachineStateInvalid", $"The saved interrupt controllers are not of schema {SchemaVersion}.", "Restore them with the version that saved them, or newer.");
        if (BinaryPrimitives.ReadInt32LittleEndian(state[4..]) != _partition.Vcpus.Count || state.Length != expected)
            throw new VirtException("MachineStateInvalid", $"The saved interrupt controllers have {state.Length} bytes where {_partition.Vcpus.Count} vCPUs need {expected}.");
        state = state[8..];
        foreach (uint number in s_chips)
        {
            KvmIrqchip chip = Take<KvmIrqchip>(ref state);
            if (chip.Chip != number)
                throw new VirtException("MachineStateInvalid", $"The saved interrupt controllers have chip {chip.Chip} where {number} belongs.");
            WriteChip(chip);
        }

        _stoppedPit = Take<KvmPitState2>(ref state);
        foreach (KvmVcpu vcpu in _partition.Vcpus)
        {
            vcpu.LocalApic!.Restore(state[..KvmLocalApic.SavedSize]);
            state = state[KvmLocalApic.SavedSize..];
        }
    }

    internal static T Take<T>(ref ReadOnlySpan<byte> bytes) where T : unmanaged
    {
        T value = System.Runtime.InteropServices.MemoryMarshal.Read<T>(bytes);
        bytes = bytes[sizeof(T)..];
        return value;
    }

    internal void SetMessage(uint gsi, MsiMessage? message)
    {
        lock (_gate)
        {
            _signals[gsi] = message;
            WriteRoutes();
        }
    }

    internal void Remove(uint gsi)
    {
        lock (_gate)
        {
            _signals.Remove(gsi);
            WriteRoutes();
        }
    }

    /// <summary>KVM_IRQFD: the descriptor raises the interrupt of this number.</summary>
    internal void Bind(int eventFd, uint gsi, bool bind)
    {
        var irqfd = new KvmIrqfd { Fd = (uint)eventFd, Gsi = gsi, Flags = bind ? 0 : Kvm.IrqfdDeassign };
        int result = LinuxCalls.Ioctl(_fd, Kvm.Irqfd, &irqfd);
        if (bind)
            KvmDevice.Must(result, "an interrupt by file descriptor");
    }

    /// <summary>The PC's wiring: ISA wire n at the PIC's pin n and the IOAPIC's pin n, the timer (0) at the IOAPIC's pin 2, the cascade (2) nowhere (docs/MACHINE.md).</summary>
    private void AddWires()
    {
        for (uint gsi = 0; gsi < Pins; gsi++)
        {
            if (gsi == TimerPin)
                continue;
            if (gsi < IsaCount)
                _wires.Add(new KvmIrqRoute { Gsi = gsi, Type = Kvm.RouteIrqchip, ChipOrAddressLow = gsi < PicPins ? Kvm.ChipPicMaster : Kvm.ChipPicSlave, PinOrAddressHigh = gsi % PicPins });
            _wires.Add(new KvmIrqRoute { Gsi = gsi, Type = Kvm.RouteIrqchip, ChipOrAddressLow = Kvm.ChipIoApic, PinOrAddressHigh = gsi == 0 ? TimerPin : gsi });
        }
    }

    /// <summary>The whole table at once; KVM knows no other way.</summary>
    private void WriteRoutes()
    {
        List<KvmIrqRoute> routes = [.. _wires];
        foreach ((uint gsi, MsiMessage? message) in _signals)
        {
            if (message is { } m)
                routes.Add(new KvmIrqRoute { Gsi = gsi, Type = Kvm.RouteMsi, ChipOrAddressLow = (uint)m.Address, PinOrAddressHigh = (uint)(m.Address >> 32), Data = m.Data });
        }

        // struct kvm_irq_routing: count, flags, entries.
        byte[] block = new byte[8 + routes.Count * sizeof(KvmIrqRoute)];
        fixed (byte* p = block)
        {
            *(uint*)p = (uint)routes.Count;
            for (int i = 0; i < routes.Count; i++)
                ((KvmIrqRoute*)(p + 8))[i] = routes[i];
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetGsiRouting, p), "the interrupts' routes");
        }
    }

    private KvmIrqchip ReadChip(uint number)
    {
        var chip = new KvmIrqchip { Chip = number };
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetIrqchip, &chip), $"the state of interrupt controller {number}");
        return chip;
    }

    private void WriteChip(KvmIrqchip chip) => KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetIrqchip, &chip), $"a state of interrupt controller {chip.Chip}");

    private KvmPitState2 ReadPit()
    {
        KvmPitState2 pit;
        KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetPit2, &pit), "the timer's state");
        return pit;
    }

    private void WritePit(KvmPitState2 pit) => KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetPit2, &pit), "a state of the timer");
}

/// <summary>An MSI that an eventfd raises inside KVM.</summary>
internal sealed class KvmMsiSignal : IMsiSignal
{
    private readonly KvmInterruptController _controller;
    private readonly uint _gsi;
    private readonly int _fd;
    private MsiMessage? _message;
    private bool _disposed;

    public KvmMsiSignal(KvmInterruptController controller, uint gsi)
    {
        (_controller, _gsi, _fd) = (controller, gsi, LinuxCalls.CreateEvent());
        try
        {
            controller.Bind(_fd, gsi, bind: true);
        }
        catch
        {
            _ = LinuxCalls.Close(_fd);
            throw;
        }
    }

    public MsiMessage? Message
    {
        get => _message;
        set
        {
            if (_message == value)
                return;
            _controller.SetMessage(_gsi, value);
            _message = value;
        }
    }

    public int? EventDescriptor => _fd;

    public void Raise() => LinuxCalls.Raise(_fd);

    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _controller.Bind(_fd, _gsi, bind: false);
        _controller.Remove(_gsi);
        _ = LinuxCalls.Close(_fd);
    }
}
