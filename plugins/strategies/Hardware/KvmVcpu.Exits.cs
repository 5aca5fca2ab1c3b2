using System.Globalization;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

// What becomes of each exit, and what is told when there is no going on.
internal sealed unsafe partial class KvmVcpu
{
    /// <summary>One exit; null = go back into the guest.</summary>
    private VcpuExit? Dispatch(bool step)
    {
        switch (_run->ExitReason)
        {
            case Kvm.ExitIo:
                if (step && IsTrap())
                    return VcpuExit.SingleStep;
                PortAccess();
                return step ? FinishStepped() : null;
            case Kvm.ExitMmio:
                MmioAccess();
                return step ? FinishStepped() : null;
            case Kvm.ExitRdmsr or Kvm.ExitWrmsr:
                MsrAccess();
                return step ? FinishStepped() : null;
            case Kvm.ExitHlt when step && !_stepHalts:
                return FinishStepped();
            case Kvm.ExitHlt:
                _state->MpState = MpState.Halted;
                TakeWakeConditions();
                return VcpuExit.Halt;
            case Kvm.ExitIrqWindowOpen:
                return VcpuExit.InterruptWindow;
            case Kvm.ExitIntr:
                return null;
            case Kvm.ExitSetTpr:
                return step ? FinishStepped() : null;
            case Kvm.ExitDebug when step:
                return VcpuExit.SingleStep;
            case Kvm.ExitShutdown or Kvm.ExitSystemEvent:
                return TripleFault();
            case Kvm.ExitFailEntry:
                return Fail($"KVM could not enter the guest: hardware reason 0x{_run->HardwareReason:X}");
            case Kvm.ExitInternalError:
                return Fail($"KVM internal error {_run->InternalSubError} ({InternalErrorName(_run->InternalSubError)})");
            default:
                return Fail($"KVM exit {_run->ExitReason}, which nobody here knows");
        }
    }

    /// <summary>KVM's exit reasons (KVM_EXIT_…) by number, as far as they are counted one by one.</summary>
    private static readonly string[] s_exitNames =
    [
        "UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO", "IRQ_WINDOW_OPEN", "SHUTDOWN", "FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS", "S390_SIEIC", "S390_RESET",
        "DCR", "NMI", "INTERNAL_ERROR", "OSI", "PAPR_HCALL", "S390_UCONTROL", "WATCHDOG", "S390_TSCH", "EPR", "SYSTEM_EVENT", "S390_STSI", "IOAPIC_EOI", "HYPERV", "ARM_NISV",
        "X86_RDMSR", "X86_WRMSR", "DIRTY_RING_FULL", "AP_RESET_HOLD", "X86_BUS_LOCK", "XEN", "RISCV_SBI", "RISCV_CSR", "NOTIFY", "LOONGARCH_IOCSR", "MEMORY_FAULT",
    ];

    // Behind the named ones: KVM_RUN that came back for a signal (a kick), and what has no name.
    private static readonly uint SignalIndex = (uint)s_exitNames.Length, OtherIndex = SignalIndex + 1;

    private readonly ulong[] _exits = new ulong[OtherIndex + 1];

    public VcpuStatistics ReadStatistics()
    {
        Dictionary<string, ulong> exits = [], counters = [];
        for (uint i = 0; i < _exits.Length; i++)
        {
            if (_exits[i] != 0)
                exits[i < SignalIndex ? s_exitNames[i] : i == SignalIndex ? "Signal" : "Other"] = _exits[i];
        }

        _statistics?.AddTo(counters);
        (TimeSpan Guest, TimeSpan Kernel, TimeSpan Vmm)? times = ThreadTimes.Of(Volatile.Read(ref _thread));
        return new VcpuStatistics { Exits = exits, Counters = counters, GuestTime = times?.Guest, KernelTime = times?.Kernel, VmmTime = times?.Vmm };
    }

    private static string InternalErrorName(uint error) => error switch
    {
        1 => "emulation failed",
        2 => "simultaneous exceptions",
        3 => "event delivery failed",
        4 => "unexpected exit reason",
        _ => "unknown",
    };

    private void PortAccess()
    {
        byte* data = (byte*)_run + _run->IoDataOffset;
        if (_run->IoDirection == Kvm.IoOut)
        {
            _counters->PortWrites += _run->IoCount;
            _host.WritePort(_run->IoPort, _run->IoSize, data, (int)_run->IoCount);
        }
        else
        {
            _counters->PortReads += _run->IoCount;
            _host.ReadPort(_run->IoPort, _run->IoSize, data, (int)_run->IoCount);
        }

        _ioPending = true;
    }

    private void MmioAccess()
    {
        int size = (int)_run->MmioLength;
        if (_run->MmioIsWrite != 0)
        {
            _counters->MmioWrites++;
            _host.WriteMmio(_run->MmioAddress, size, *(ulong*)_run->MmioData & Mask(size));
        }
        else
        {
            _counters->MmioReads++;
            *(ulong*)_run->MmioData = _host.ReadMmio(_run->MmioAddress, size) & Mask(size);
        }

        _ioPending = true;
    }

    private void MsrAccess()
    {
        _counters->MsrAccesses++;
        bool known;
        if (_run->ExitReason == Kvm.ExitWrmsr)
        {
            known = _host.WriteMsr(_run->MsrIndex, _run->MsrData);
        }
        else
        {
            known = _host.ReadMsr(_run->MsrIndex, out ulong value);
            _run->MsrData = value;
        }

        _run->MsrError = known ? (byte)0 : (byte)1;
        _ioPending = true;
    }

    /// <summary>What decides whether a halted processor wakes up: the runner looks at the state without asking for all of it.</summary>
    private void TakeWakeConditions()
    {
        _state->Rflags = _run->IfFlag != 0 ? _state->Rflags | Rflags.IF : _state->Rflags & ~Rflags.IF;
        KvmStateCopy.ReadEvents(_fd, _state);
    }

    private static ulong Mask(int size) => size >= 8 ? ulong.MaxValue : (1ul << (size * 8)) - 1;

    /// <summary>The state at a triple fault is read at once: it is the only report there is.</summary>
    private VcpuExit TripleFault()
    {
        _stateIsFresh = false;
        SynchronizeState();
        _state->MpState = MpState.Shutdown;
        return VcpuExit.Shutdown;
    }

    private VcpuExit Fail(string what)
    {
        _host.ReportFailure($"{what}. {Report()}");
        return VcpuExit.Failed;
    }

    /// <summary>Where it happened; or that KVM does not even say that.</summary>
    private string Report()
    {
        _ioPending = false;
        _stateIsFresh = false;
        try
        {
            SynchronizeState();
        }
        catch (Sdk.VirtException e)
        {
            return $"vCPU {Index}; its registers cannot be read: {e.Message}";
        }

        return $"{Registers()}, code {CodeAtRip()}.";
    }

    private string Registers()
    {
        VcpuState* s = _state;
        var text = new System.Text.StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"vCPU {Index} ({s->Mode}, ring {s->Cpl}): RIP 0x{s->Rip:X}, RFLAGS 0x{s->Rflags:X}");
        for (int i = 0; i < 16; i++)
            text.Append(CultureInfo.InvariantCulture, $", {((Gpr)i).ToString().ToUpperInvariant()} 0x{s->Gpr[i]:X}");
        text.Append(CultureInfo.InvariantCulture, $", CS 0x{s->CS.Selector:X}, SS 0x{s->SS.Selector:X}, DS 0x{s->DS.Selector:X}, ES 0x{s->ES.Selector:X}, FS 0x{s->FS.Selector:X} base 0x{s->FS.Base:X}, GS 0x{s->GS.Selector:X} base 0x{s->GS.Base:X}");
        text.Append(CultureInfo.InvariantCulture, $", GDTR 0x{s->Gdtr.Base:X}, IDTR 0x{s->Idtr.Base:X}, CR0 0x{s->Cr0:X}, CR2 0x{s->Cr2:X}, CR3 0x{s->Cr3:X}, CR4 0x{s->Cr4:X}, EFER 0x{s->Efer:X}");
        return text.ToString();
    }

    /// <summary>Up to 15 bytes at RIP, the longest instruction.</summary>
    private string CodeAtRip()
    {
        ulong linear = _state->CS.Base + _state->Rip;
        Span<byte> bytes = stackalloc byte[15];
        int count = ReadCode(_state->IsLongMode ? linear : (uint)linear, bytes);
        return count == 0 ? "not readable" : Convert.ToHexString(bytes[..count]);
    }

    /// <summary>Page by page, so that bytes before an unmapped page are there; returns how many.</summary>
    private int ReadCode(ulong linear, Span<byte> bytes)
    {
        int count = 0;
        while (count < bytes.Length && KvmPageWalk.TryTranslate(_partition, _state, linear + (ulong)count, out ulong gpa))
        {
            int part = (int)Math.Min((ulong)(bytes.Length - count), 0x1000 - (gpa & 0xFFF));
            if (!_partition.TryRead(gpa, bytes.Slice(count, part)))
                break;
            count += part;
        }

        return count;
    }
}
