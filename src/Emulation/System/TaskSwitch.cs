using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Emulation;

internal enum TaskSwitchCause
{
    Jump,
    Call,
    Iret,

    /// <summary>Interrupt or exception through a task gate; links back like CALL.</summary>
    Interrupt,
}

/// <summary>A task-state segment's dynamic part, of either width (SDM Vol. 3A figures 8-2, 8-10). Registers in encoding order.</summary>
internal unsafe struct TaskState
{
    public fixed uint Registers[8];
    public uint Eip, Eflags, Cr3;

    /// <summary>ES, CS, SS, DS, FS, GS.</summary>
    public fixed ushort Segments[6];
    public ushort Ldt, Link;
    public bool DebugTrap;
}

// Hardware task switching (SDM Vol. 3A §8.3), 16- and 32-bit task-state segments. Not in long mode.
public sealed unsafe partial class SoftVcpu
{
    private const uint Tss32Limit = 0x67, Tss16Limit = 0x2B;

    private bool SwitchThroughTaskGate(ulong gate, TaskSwitchCause cause, ulong next, bool hasError = false, uint error = 0)
    {
        (ushort selector, _) = GateTarget(gate);
        // An exception through a task gate names a bad TSS as #TS, JMP and CALL as #GP (SDM Vol. 2A CALL, INT n: TASK-GATE).
        if ((selector & 4) != 0 || IsNull(selector))
            return RaiseSelector(Vector.GP, selector);
        if (!FetchDescriptor(selector, Vector.GP, out ulong d, out ulong linear))
            return false;
        if (!DescriptorIsSystem(d) || DescriptorType(d) is not (SystemType.TssAvailable or SystemType.Tss16Available))
            return RaiseSelector(Vector.GP, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        return SwitchTask(selector, d, linear, cause, next, hasError, error);
    }

    /// <summary>
    /// Saves the running task (to resume at <paramref name="next"/>) and loads the one of the checked, present TSS descriptor <paramref name="d"/>. Faults before the
    /// new TSS is loaded are the old task's, later ones the new task's, as on the processor.
    /// </summary>
    private bool SwitchTask(ushort selector, ulong d, ulong linear, TaskSwitchCause cause, ulong next, bool hasError, uint error)
    {
        bool wide = (DescriptorType(d) & 8) != 0;
        SegmentRegister tss = SegmentRegister.FromDescriptor(selector, d);
        if (tss.Limit < (wide ? Tss32Limit : Tss16Limit))
            return RaiseSelector(Vector.TS, selector);
        if (!ReadTaskState(tss.Base, wide, out TaskState task))
            return false;

        RingMark from = MarkRing();
        ulong flags = GetFlags();
        if (cause == TaskSwitchCause.Iret)
            flags &= ~Rflags.NT;
        if (!SaveTaskState(next, flags) || !RelinkTasks(cause, d, linear, tss.Base))
            return false;
        if (cause is TaskSwitchCause.Call or TaskSwitchCause.Interrupt)
            task.Eflags |= (uint)Rflags.NT;

        S->TR = tss;
        S->TR.Attributes |= 2; // busy
        S->Cr0 |= Cr0.TS;
        S->Dr7 &= ~0x155ul;
        UpdateDebugActive();
        if (!LoadTaskRegisters(task, wide) || !LoadTaskSegments(task))
            return false;
        if (hasError && !PushTaskError(wide, error))
            return false;
        if (S->Rip > S->CS.Limit)
            return Raise(Vector.GP, _ext);
        RecordTransfer(from, RingCause.TaskSwitch, 0, selector);
        if (task.DebugTrap)
            RequestDebugTrap(Dr6TaskSwitch);
        return true;
    }

    private bool ReadTaskState(ulong at, bool wide, out TaskState task)
    {
        task = default;
        if (!wide)
            return ReadTaskState16(at, out task);
        bool ok = LoadTaskField(at, 0x1C, 4, out task.Cr3) && LoadTaskField(at, 0x20, 4, out task.Eip) && LoadTaskField(at, 0x24, 4, out task.Eflags);
        for (uint i = 0; ok && i < 8; i++)
        {
            ok = LoadTaskField(at, 0x28 + 4 * i, 4, out uint r);
            task.Registers[i] = r;
        }

        for (uint i = 0; ok && i < 6; i++)
        {
            ok = LoadTaskField(at, 0x48 + 4 * i, 2, out uint s);
            task.Segments[i] = (ushort)s;
        }

        if (!ok || !LoadTaskField(at, 0x60, 2, out uint ldt) || !LoadTaskField(at, 0x64, 2, out uint trap))
            return false;
        task.Ldt = (ushort)ldt;
        task.DebugTrap = (trap & 1) != 0;
        return true;
    }

    private bool ReadTaskState16(ulong at, out TaskState task)
    {
        task = default;
        bool ok = LoadTaskField(at, 0x0E, 2, out task.Eip) && LoadTaskField(at, 0x10, 2, out task.Eflags);
        for (uint i = 0; ok && i < 8; i++)
        {
            ok = LoadTaskField(at, 0x12 + 2 * i, 2, out uint r);
            task.Registers[i] = r | 0xFFFF_0000;
        }

        for (uint i = 0; ok && i < 4; i++)
        {
            ok = LoadTaskField(at, 0x22 + 2 * i, 2, out uint s);
            task.Segments[i] = (ushort)s;
        }

        if (!ok || !LoadTaskField(at, 0x2A, 2, out uint ldt))
            return false;
        task.Ldt = (ushort)ldt;
        task.Eflags |= (uint)S->Rflags & 0xFFFF_0000;
        return true;
    }

    private bool LoadTaskField(ulong at, uint offset, int size, out uint value)
    {
        ulong linear = WrapLinear(at + offset);
        if (size == 4)
            return LoadLinear(linear, supervisor: true, out value);
        bool ok = LoadLinear(linear, supervisor: true, out ushort w);
        value = w;
        return ok;
    }

    private bool StoreTaskField(uint offset, bool wide, uint value)
    {
        ulong linear = WrapLinear(S->TR.Base + offset);
        return wide ? StoreLinear(linear, supervisor: true, value) : StoreLinear(linear, supervisor: true, (ushort)value);
    }

    private bool SaveTaskState(ulong next, ulong flags)
    {
        bool wide = (S->TR.Attributes & 8) != 0;
        if (S->TR.Limit < (wide ? 0x5Fu : 0x29u))
            return RaiseSelector(Vector.TS, S->TR.Selector);
        (uint eip, uint general, uint segments, uint step) = wide ? (0x20u, 0x28u, 0x48u, 4u) : (0x0Eu, 0x12u, 0x22u, 2u);
        bool ok = StoreTaskField(eip, wide, (uint)next) && StoreTaskField(eip + step, wide, (uint)flags);
        for (uint i = 0; ok && i < 8; i++)
            ok = StoreTaskField(general + step * i, wide, (uint)S->Gpr[i]);
        for (uint i = 0; ok && i < (wide ? 6u : 4u); i++)
            ok = StoreTaskField(segments + step * i, wide: false, Seg((SegmentName)i)->Selector);
        return ok;
    }

    /// <summary>Busy bits and back link (SDM Vol. 3A table 8-2).</summary>
    private bool RelinkTasks(TaskSwitchCause cause, ulong d, ulong linear, ulong newBase)
    {
        if (cause is TaskSwitchCause.Jump or TaskSwitchCause.Iret)
        {
            if (LookUpDescriptor(S->TR.Selector, out ulong old, out ulong oldLinear) == Lookup.Faulted)
                return false;
            if (oldLinear != 0 && !MarkBusy(old, oldLinear, busy: false))
                return false;
        }
        else if (!StoreLinear(WrapLinear(newBase), supervisor: true, S->TR.Selector))
        {
            return false;
        }

        return cause == TaskSwitchCause.Iret || MarkBusy(d, linear, busy: true);
    }

    /// <summary>CR3, EIP, EFLAGS and the general registers.</summary>
    private bool LoadTaskRegisters(in TaskState task, bool wide)
    {
        if (wide && (S->Cr0 & Cr0.PG) != 0)
        {
            if (!LoadPdptes(task.Cr3))
                return false;
            S->Cr3 = task.Cr3;
            FlushTlb(global: false);
        }

        SetFlags(task.Eflags & Rflags.Implemented);
        for (int i = 0; i < 8; i++)
            S->Gpr[i] = task.Registers[i];
        SetRip(task.Eip);
        return true;
    }

    private bool LoadTaskSegments(in TaskState task)
    {
        // Selectors first and all unusable: a fault from here on is reported in the new task, with its selectors.
        for (int i = 0; i < 6; i++)
            *Seg((SegmentName)i) = NullSegment(task.Segments[i], (S->Rflags & Rflags.VM) != 0 ? 3 : task.Segments[1] & 3);
        S->LDTR = NullSegment(task.Ldt);
        S->Cpl = (byte)(InVirtual8086 ? 3 : task.Segments[(int)SegmentName.CS] & 3);
        ModeChanged();
        if (!LoadTaskLdt(task.Ldt))
            return false;
        if (InVirtual8086)
        {
            for (int i = 0; i < 6; i++)
                *Seg((SegmentName)i) = Virtual8086Segment(task.Segments[i]);
            ModeChanged();
            return true;
        }

        int cpl = S->Cpl;
        if (!LoadTaskCode(task.Segments[(int)SegmentName.CS])
            || !CheckStackSegment(task.Segments[(int)SegmentName.SS], cpl, Vector.TS, out SegmentRegister stack))
            return false;
        S->SS = stack;
        ReadOnlySpan<SegmentName> data = [SegmentName.ES, SegmentName.DS, SegmentName.FS, SegmentName.GS];
        foreach (SegmentName name in data)
        {
            if (!LoadTaskData(name, task.Segments[(int)name]))
                return false;
        }

        ModeChanged();
        return true;
    }

    private bool LoadTaskLdt(ushort selector)
    {
        if (IsNull(selector))
            return true;
        if ((selector & 4) != 0)
            return RaiseSelector(Vector.TS, selector);
        if (!FetchDescriptor(selector, Vector.TS, out ulong d, out _))
            return false;
        if (!DescriptorIsSystem(d) || DescriptorType(d) != SystemType.Ldt || !DescriptorPresent(d))
            return RaiseSelector(Vector.TS, selector);
        S->LDTR = SegmentRegister.FromDescriptor(selector, d);
        return true;
    }

    private bool LoadTaskCode(ushort selector)
    {
        if (IsNull(selector))
            return RaiseSelector(Vector.TS, selector);
        if (!FetchDescriptor(selector, Vector.TS, out ulong d, out ulong linear))
            return false;
        int rpl = selector & 3;
        if (!DescriptorIsCode(d) || (DescriptorIsConforming(d) ? DescriptorDpl(d) > rpl : DescriptorDpl(d) != rpl))
            return RaiseSelector(Vector.TS, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        return LoadCodeSegment(selector, d, linear, rpl);
    }

    private bool LoadTaskData(SegmentName name, ushort selector)
    {
        // Same checks as MOV Sreg, but a bad selector is #TS (SDM Vol. 3A table 8-1).
        if (CheckDataSegment(selector, out SegmentRegister loaded))
        {
            *Seg(name) = loaded;
            return true;
        }

        if (PendingFault.Vector == Vector.GP)
            PendingFault.Vector = Vector.TS;
        return false;
    }

    private bool PushTaskError(bool wide, uint error)
    {
        StackCursor stack = CurrentStack();
        if (!Push(ref stack, wide ? 4 : 2, error))
            return false;
        CommitStackPointer(stack);
        return true;
    }

    /// <summary>IRET with NT set: back to the task that the running TSS links to (SDM Vol. 2A IRET, TASK-RETURN).</summary>
    private bool ReturnToLinkedTask(ulong next)
    {
        if (!LoadTss(0, 2, out uint link))
            return false;
        var selector = (ushort)link;
        if ((selector & 4) != 0 || IsNull(selector))
            return RaiseSelector(Vector.TS, selector);
        if (!FetchDescriptor(selector, Vector.TS, out ulong d, out ulong linear))
            return false;
        if (!DescriptorIsSystem(d) || DescriptorType(d) is not (SystemType.TssBusy or SystemType.Tss16Busy))
            return RaiseSelector(Vector.TS, selector);
        if (!DescriptorPresent(d))
            return RaiseSelector(Vector.NP, selector);
        return SwitchTask(selector, d, linear, TaskSwitchCause.Iret, next, hasError: false, error: 0);
    }
}
