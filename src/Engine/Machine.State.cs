using System.Buffers.Binary;
using VirtPS.Engine.Running;
using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;

namespace VirtPS.Engine;

public sealed partial class Machine
{
    private const int PageSize = 4096;

    /// <summary>The whole state without memory. Only while <see cref="VmState.Paused"/>.</summary>
    public MachineState Save() => _control.Invoke(() =>
    {
        Require(VmState.Paused);
        // Before the lock is taken: a vCPU that is asked wakes up, and may need the lock for that.
        VcpuSnapshot[] vcpus = [.. _board.Vcpus.Select(r => r.Invoke(TakeSnapshot))];
        using (_board.Gate.Hold())
        {
            return new MachineState
            {
                Strategy = Strategy.Info.Name,
                Memory = Configuration.Memory,
                Nanoseconds = Clock.Now,
                PowerOnUtc = Clock.PowerOnUtc,
                TscFrequency = Clock.Tsc.Frequency,
                Vcpus = vcpus,
                Devices = _devices.ToDictionary(d => d.Name, d => d.Device.Save()),
                InterruptController = _partition.InterruptController?.Save(),
                Partition = _partition.SaveState(),
                Kvm = _board.Enlightenment?.Save(),
                A20 = _guestControl.A20,
            };
        }
    });

    /// <summary>
    /// Takes over a saved state into a machine that was never switched on, of the same devices, memory size and vCPU count; it is Paused afterwards.
    /// Restore the memory first. Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>, <c>DeviceStateInvalid</c>); the machine has then ended.
    /// </summary>
    public void Restore(MachineState state) => _control.Invoke(() =>
    {
        Require(VmState.Off);
        if (_started)
            throw new VirtException("InvalidVMState", $"VM '{Configuration.Name}': this machine has run already. Build a new one.", null, Configuration.Name);
        CheckFits(state);
        _started = true;
        SetState(VmState.Starting, MachineCause.Requested, "Restoring.");
        try
        {
            ResetParts(ResetKind.Cold);
            Apply(state);
        }
        catch (Exception e)
        {
            SetState(VmState.Off, MachineCause.Failure, e.Message);
            throw;
        }

        _board.Timer.Start();
        foreach (VcpuRunner runner in _board.Vcpus)
            runner.Start(paused: true);
        SetState(VmState.Paused, MachineCause.Requested, "Restored.");
        return true;
    });

    /// <summary>Writes all RAM, leaving out pages of zeros. While Paused.</summary>
    public void SaveMemory(Stream stream) => _control.Invoke(() =>
    {
        Require(VmState.Paused);
        Span<byte> header = stackalloc byte[16];
        foreach (MemorySlot slot in Memory.Slots)
        {
            for (ulong page = 0; page < slot.PageCount; page++)
            {
                ulong gpa = slot.Gpa + (page << 12);
                if (!Memory.TryLease(gpa, PageSize, writable: false, out MemoryLease lease))
                    throw new InvalidOperationException($"RAM at 0x{gpa:X} went away.");
                using (lease)
                {
                    if (!lease.Span.ContainsAnyExcept((byte)0))
                        continue;
                    BinaryPrimitives.WriteUInt64LittleEndian(header, gpa);
                    stream.Write(header[..8]);
                    stream.Write(lease.Span);
                }
            }
        }

        BinaryPrimitives.WriteUInt64LittleEndian(header, ulong.MaxValue);
        stream.Write(header[..8]);
        return true;
    });

    /// <summary>Reads what <see cref="SaveMemory"/> wrote into a machine that was never switched on.</summary>
    public void RestoreMemory(Stream stream) => _control.Invoke(() =>
    {
        Require(VmState.Off);
        var page = new byte[PageSize];
        Span<byte> header = stackalloc byte[8];
        try
        {
            while (true)
            {
                stream.ReadExactly(header);
                ulong gpa = BinaryPrimitives.ReadUInt64LittleEndian(header);
                if (gpa == ulong.MaxValue)
                    return true;
                stream.ReadExactly(page);
                if (!Memory.TryWrite(gpa, page))
                    throw new VirtException("MachineStateInvalid", $"The saved memory has a page at 0x{gpa:X}, where this machine has no RAM.");
            }
        }
        catch (EndOfStreamException e)
        {
            throw new VirtException("MachineStateInvalid", "The saved memory ends too early.", null, null, e);
        }
    });

    private static unsafe VcpuSnapshot TakeSnapshot(Sdk.Cpu.IVcpu vcpu)
    {
        vcpu.SynchronizeState();
        return VcpuSnapshot.Take(vcpu.State);
    }

    /// <summary>A guest that has AVX-512's registers, say, cannot go on where there are none.</summary>
    private void CheckComponents(MachineState state)
    {
        if (!_partition.Options.Cpuid.Entries.TryGetValue((0xD, 0), out Sdk.Cpu.CpuidResult offered))
            return;
        ulong components = offered.Eax | (ulong)offered.Edx << 32 | X86.Xcr0.X87;
        foreach (VcpuSnapshot vcpu in state.Vcpus)
        {
            if (vcpu.Registers.TryGetValue("XCR0", out ulong used) && (used & ~components) != 0)
                throw new VirtException("MachineStateInvalid", $"The saved machine uses processor state (XCR0 = {used:X}h) of which this one offers only {components:X}h.",
                    "Restore it with the same processor level, on a host whose processor has what that needs (AVX, AVX-512).");
        }
    }

    private void CheckFits(MachineState state)
    {
        if (state.Vcpus.Count != VcpuCount || state.Memory != Configuration.Memory)
            throw new VirtException("MachineStateInvalid", $"The saved machine has {state.Vcpus.Count} vCPUs and {state.Memory} bytes of memory; this one {VcpuCount} and {Configuration.Memory}.");
        if (state.TscFrequency != Clock.Tsc.Frequency)
            throw new VirtException("MachineStateInvalid", $"The saved machine's TSC runs at {state.TscFrequency} Hz, this one's at {Clock.Tsc.Frequency} Hz.", "Build the machine with the same TSC frequency.");
        if (_devices.FirstOrDefault(d => !state.Devices.ContainsKey(d.Name)).Name is { } missing)
            throw new VirtException("MachineStateInvalid", $"The saved machine has no device '{missing}'.");
        if (state.Devices.Keys.FirstOrDefault(n => _devices.All(d => d.Name != n)) is { } extra)
            throw new VirtException("MachineStateInvalid", $"The saved machine has a device '{extra}', which this one lacks.");
        CheckComponents(state);
        if (state.InterruptController is null != _partition.InterruptController is null)
            throw new VirtException("MachineStateInvalid", "The saved machine's interrupt controller is of another kind than this one's.");
        if (state.Kvm is null != _board.Enlightenment is null)
            throw new VirtException("MachineStateInvalid", "The saved machine and this one do not tell their guests alike that they run on KVM.", "Build the machine with the same enlightenment.");
    }

    private unsafe void Apply(MachineState state)
    {
        Clock.Set(state.Nanoseconds, state.PowerOnUtc);
        _guestControl.A20 = state.A20;
        // vCPUs first: a local APIC asks its vCPU's TSC and sets its requests.
        for (int i = 0; i < VcpuCount; i++)
        {
            VcpuRunner runner = _board.Vcpus[i];
            state.Vcpus[i].Apply(runner.State);
            runner.Vcpu.CommitState();
        }

        if (state.InterruptController is { } controller)
            _partition.InterruptController!.Restore(controller);
        if (state.Partition is { } partition)
            _partition.RestoreState(partition);
        if (state.Kvm is { } kvm)
            _board.Enlightenment!.Restore(kvm);
        using (_board.Gate.Hold())
        {
            foreach ((string name, IDevice device) in _devices)
                device.Restore(state.Devices[name]);
        }

        foreach (VcpuRunner runner in _board.Vcpus)
            runner.StateReplaced();
    }
}
