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
                PortAccess();
                return null;
            case Kvm.ExitMmio:
                MmioAccess();
                return null;
            case Kvm.ExitRdmsr or Kvm.ExitWrmsr:
                MsrAccess();
                return null;
            case Kvm.ExitHlt:
                _state->MpState = MpState.Halted;
                TakeWakeConditions();
                return VcpuExit.Halt;
            case Kvm.ExitIrqWindowOpen:
                return VcpuExit.InterruptWindow;
            case Kvm.ExitIntr or Kvm.ExitSetTpr:
                return null;
            case Kvm.ExitDebug when step:
                return VcpuExit.SingleStep;
            case Kvm.ExitShutdown:
                _state->MpState = MpState.Shutdown;
                return VcpuExit.Shutdown;
            case Kvm.ExitSystemEvent:
                _state->MpState = MpState.Shutdown;
                return VcpuExit.Shutdown;
            case Kvm.ExitFailEntry:
                _host.ReportFailure($"KVM could not enter the guest: hardware reason 0x{_run->HardwareReason:X}.{Report()}");
                return VcpuExit.Failed;
            case Kvm.ExitInternalError:
                _host.ReportFailure($"KVM internal error {_run->InternalSubError} ({InternalErrorName(_run->InternalSubError)}).{Report()}");
                return VcpuExit.Failed;
            default:
                _host.ReportFailure($"KVM exit {_run->ExitReason}, which nobody here knows.{Report()}");
                return VcpuExit.Failed;
        }
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

    private string Report()
    {
        _stateIsFresh = false;
        SynchronizeState();
        return $" RIP 0x{_state->Rip:X}, CS 0x{_state->CS.Selector:X}, RSP 0x{_state->Gpr[(int)Gpr.Rsp]:X}, CR0 0x{_state->Cr0:X}, CR3 0x{_state->Cr3:X}, RFLAGS 0x{_state->Rflags:X}, code {CodeAtRip()}.";
    }

    /// <summary>Up to 15 bytes at RIP, the longest instruction; page by page, so that those before an unmapped page are shown.</summary>
    private string CodeAtRip()
    {
        ulong linear = _state->CS.Base + _state->Rip;
        if (!_state->IsLongMode)
            linear = (uint)linear;
        Span<byte> bytes = stackalloc byte[15];
        int count = 0;
        while (count < bytes.Length && KvmPageWalk.TryTranslate(_partition, _state, linear + (ulong)count, out ulong gpa))
        {
            int part = (int)Math.Min((ulong)(bytes.Length - count), 0x1000 - (gpa & 0xFFF));
            if (!_partition.TryRead(gpa, bytes.Slice(count, part)))
                break;
            count += part;
        }

        return count == 0 ? "not readable" : Convert.ToHexString(bytes[..count]);
    }
}
