using VirtPS.Sdk;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// One vCPU's local APIC inside KVM. While the vCPU does not run. Its timer follows the host's time, so that a pause takes it apart: what is left of its count, or the deadline, is
/// noted and set again, everything else stays as it is.
/// </summary>
internal sealed unsafe class KvmLocalApic
{
    /// <summary>Bytes that <see cref="Save"/> writes: IA32_APIC_BASE, deadline, registers.</summary>
    public const int SavedSize = 16 + 1024;

    private readonly int _fd;
    private readonly KvmMsrs _msrs;
    private readonly KvmLapicState _initial;
    private readonly ulong _initialBase;
    private bool _timerStopped;
    private uint _timerLeft;
    private ulong _deadline;

    /// <summary>For a vCPU that has its CPUID table and has not run.</summary>
    public KvmLocalApic(int fd, KvmMsrs msrs)
    {
        (_fd, _msrs) = (fd, msrs);
        _initial = Registers;
        _initialBase = Base;
    }

    public byte TaskPriority
    {
        get
        {
            KvmLapicState state = Registers;
            return state.Registers[KvmLapicState.TaskPriority];
        }
    }

    /// <summary>The base first: it decides how the id in the registers is written.</summary>
    public void Reset()
    {
        Base = _initialBase;
        Registers = _initial;
        (_timerLeft, _deadline) = (0, 0);
    }

    public void Pause()
    {
        if (_timerStopped)
            return;
        KvmLapicState state = Registers;
        _timerLeft = *(uint*)(state.Registers + KvmLapicState.TimerCurrentCount);
        _ = _msrs.TryGet(Msr.TscDeadline, out _deadline);
        _timerStopped = true;
    }

    /// <summary>With the vCPU's TSC right: the deadline is in its ticks.</summary>
    public void Resume()
    {
        if (!_timerStopped)
            return;
        _timerStopped = false;
        KvmLapicState state = Registers;
        *(uint*)(state.Registers + KvmLapicState.TimerCurrentCount) = _timerLeft;
        Registers = state;
        if (_deadline != 0)
            _ = _msrs.TrySet(Msr.TscDeadline, _deadline);
    }

    public void Save(Stream stream)
    {
        KvmLapicState state = Registers;
        ulong deadline = _deadline;
        if (_timerStopped)
            *(uint*)(state.Registers + KvmLapicState.TimerCurrentCount) = _timerLeft;
        else
            _ = _msrs.TryGet(Msr.TscDeadline, out deadline);
        ulong apicBase = Base;
        stream.Write(new ReadOnlySpan<byte>(&apicBase, sizeof(ulong)));
        stream.Write(new ReadOnlySpan<byte>(&deadline, sizeof(ulong)));
        stream.Write(new ReadOnlySpan<byte>(&state, sizeof(KvmLapicState)));
    }

    public void Restore(ReadOnlySpan<byte> saved)
    {
        ulong apicBase = KvmInterruptController.Take<ulong>(ref saved);
        _deadline = KvmInterruptController.Take<ulong>(ref saved);
        KvmLapicState state = KvmInterruptController.Take<KvmLapicState>(ref saved);
        _timerLeft = *(uint*)(state.Registers + KvmLapicState.TimerCurrentCount);
        _timerStopped = true;
        Base = apicBase;
        Registers = state;
    }

    private KvmLapicState Registers
    {
        get
        {
            KvmLapicState state;
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetLapic, &state), "the state of a local APIC");
            return state;
        }

        set => KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetLapic, &value), "a state of a local APIC");
    }

    private ulong Base
    {
        get
        {
            KvmSregs s;
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetSregs, &s), "the system registers");
            return s.ApicBase;
        }

        set
        {
            KvmSregs s;
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.GetSregs, &s), "the system registers");
            s.ApicBase = value;
            KvmDevice.Must(LinuxCalls.Ioctl(_fd, Kvm.SetSregs, &s), "IA32_APIC_BASE");
        }
    }
}
