using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Debug registers, breakpoints and single step (SDM Vol. 3B chapter 17).
public sealed unsafe partial class SoftVcpu
{
    internal const ulong Dr6GeneralDetect = 1 << 13, Dr6SingleStep = 1 << 14, Dr6TaskSwitch = 1 << 15;
    internal const ulong Dr7GeneralDetect = 1 << 13;

    /// <summary>DR6 bits that read as one; bit 12 and the upper half read as zero.</summary>
    private const ulong Dr6Fixed1 = 0xFFFF_0FF0, Dr6Writable = 0xE00F;

    /// <summary>DR7 bit 10 reads as one; bits 11, 12, 14, 15 as zero.</summary>
    private const ulong Dr7Fixed1 = 0x400, Dr7Writable = 0xFFFF_23FF;

    /// <summary>DR6 bits of traps met by the running instruction, delivered after it.</summary>
    private ulong _debugTraps;

    /// <summary>The running instruction began with TF set and has cleared it on its way to a handler: no single-step trap follows it.</summary>
    private bool _stepDropped;

    /// <summary>R/W field of DR7.</summary>
    private enum BreakOn
    {
        Execute,
        Write,
        Io,
        ReadWrite,
    }

    /// <summary>After DR7 changed from anywhere: whether instructions and accesses must be looked at.</summary>
    internal void UpdateDebugActive()
    {
        bool active = (S->Dr7 & 0xFF) != 0 || _debugTraps != 0;
        if (active == DebugActive)
            return;
        DebugActive = active;
        ModeChanged();
    }

    /// <summary>A task switch asked for a trap before the new task's first instruction.</summary>
    private bool DebugTrapWaits => DebugActive && _debugTraps != 0 && S->InterruptShadow != InterruptShadow.MovSs;

    private void RequestDebugTrap(ulong dr6)
    {
        _debugTraps |= dr6;
        UpdateDebugActive();
    }

    /// <summary>An exception takes the place of the traps that its instruction had collected.</summary>
    private void DropDebugTrap()
    {
        if (_debugTraps == 0)
            return;
        _debugTraps = 0;
        UpdateDebugActive();
    }

    /// <summary>#DB as a fault of the present instruction.</summary>
    private bool RaiseDebug(ulong dr6)
    {
        S->Dr6 = (S->Dr6 | dr6 | Dr6Fixed1) & ~(1ul << 12);
        return Raise(Vector.DB);
    }

    /// <summary>
    /// The trap after an instruction that began with RFLAGS.TF set, and pending data breakpoints: sets DR6 and delivers #DB. After MOV SS and POP SS traps wait for
    /// the next instruction and the single step is lost (SDM Vol. 3A §6.8.3). False after a triple fault.
    /// </summary>
    internal bool DeliverDebugTrap(bool singleStep)
    {
        if (S->InterruptShadow == InterruptShadow.MovSs)
            return true;
        ulong bits = _debugTraps | (singleStep && !_stepDropped ? Dr6SingleStep : 0);
        _stepDropped = false;
        if (bits == 0)
            return true;
        _debugTraps = 0;
        UpdateDebugActive();
        RaiseDebug(bits);
        PendingFault.IsTrap = true;
        return DeliverFault();
    }

    /// <summary>Code breakpoints of DR0–3 at the instruction about to run (only called while <see cref="DebugActive"/>, without RF and outside the shadow of MOV SS). False: #DB recorded.</summary>
    internal bool CheckInstructionBreakpoint()
    {
        ulong linear = LongModeActive && S->CS.IsLong ? S->Rip : (uint)(S->CS.Base + S->Rip);
        ulong hits = 0;
        for (int i = 0; i < 4; i++)
        {
            if (BreakpointEnabled(i) && BreakpointKind(i) == BreakOn.Execute && BreakpointAddress(i) == linear)
                hits |= 1ul << i;
        }

        return hits == 0 || RaiseDebug(hits);
    }

    /// <summary>A data access while <see cref="DebugActive"/>: remembers a hit for <see cref="DeliverDebugTrap"/>.</summary>
    internal void NoteDataAccess(ulong linear, int size, bool write)
    {
        for (int i = 0; i < 4; i++)
        {
            if (!BreakpointEnabled(i))
                continue;
            BreakOn kind = BreakpointKind(i);
            if ((kind == BreakOn.ReadWrite || (kind == BreakOn.Write && write)) && Overlaps(i, linear, size))
                _debugTraps |= 1ul << i;
        }
    }

    private void NoteIoAccess(ushort port, int size)
    {
        if ((S->Cr4 & Cr4.DE) == 0)
            return;
        for (int i = 0; i < 4; i++)
        {
            if (BreakpointEnabled(i) && BreakpointKind(i) == BreakOn.Io && Overlaps(i, port, size))
                _debugTraps |= 1ul << i;
        }
    }

    private bool BreakpointEnabled(int i) => ((S->Dr7 >> (2 * i)) & 3) != 0;

    private BreakOn BreakpointKind(int i) => (BreakOn)((S->Dr7 >> (16 + 4 * i)) & 3);

    private ulong BreakpointAddress(int i) => (&S->Dr0)[i];

    /// <summary>LEN: 1, 2, 8 or 4 bytes, aligned to its length.</summary>
    private bool Overlaps(int i, ulong address, int size)
    {
        ulong length = ((S->Dr7 >> (18 + 4 * i)) & 3) switch { 0 => 1, 1 => 2, 2 => 8, _ => 4 };
        ulong start = BreakpointAddress(i) & ~(length - 1);
        return address < start + length && start < address + (ulong)size;
    }

    /// <summary>MOV from and to debug registers: DR4/DR5 mean DR6/DR7 unless CR4.DE, then general detect.</summary>
    private bool CheckDebugRegister(ref int number)
    {
        if (number is 4 or 5)
        {
            if ((S->Cr4 & Cr4.DE) != 0)
                return Raise(Vector.UD);
            number += 2;
        }

        if (number > 7)
            return Raise(Vector.UD);
        if (S->Cpl != 0)
            return Raise(Vector.GP, 0);
        return (S->Dr7 & Dr7GeneralDetect) == 0 || RaiseDebug(Dr6GeneralDetect);
    }

    internal bool ReadDebugRegister(int number, out ulong value)
    {
        value = 0;
        if (!CheckDebugRegister(ref number))
            return false;
        value = number switch
        {
            6 => (S->Dr6 & Dr6Writable) | Dr6Fixed1,
            7 => (S->Dr7 & Dr7Writable) | Dr7Fixed1,
            _ => BreakpointAddress(number),
        };
        return true;
    }

    internal bool WriteDebugRegister(int number, ulong value)
    {
        if (!CheckDebugRegister(ref number))
            return false;
        if (number >= 6 && value >> 32 != 0)
            return Raise(Vector.GP, 0);
        switch (number)
        {
            case 6:
                S->Dr6 = (value & Dr6Writable) | Dr6Fixed1;
                break;
            case 7:
                S->Dr7 = (value & Dr7Writable) | Dr7Fixed1;
                UpdateDebugActive();
                break;
            default:
                (&S->Dr0)[number] = value;
                break;
        }

        return true;
    }
}
