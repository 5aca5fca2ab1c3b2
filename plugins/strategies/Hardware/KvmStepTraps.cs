using System.Buffers.Binary;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// Stops a single-stepped processor at the first instruction of whatever interrupts its code: entering a handler clears RFLAGS.TF (SDM Vol. 3A §6.12.1.3), so that KVM's single-step alone
/// would run through it. While one instruction is executed, the first two bytes of every handler that the IDT and the SYSCALL and SYSENTER registers lead to are an OUT to
/// <see cref="Port"/>, which leaves the guest; <see cref="Disarm"/> puts back what was there. No other vCPU may run meanwhile. Where the instruction itself begins at the second of these
/// bytes (the one behind a handler's first, of one byte), the trap is one byte long.
/// </summary>
internal sealed unsafe class KvmStepTraps(KvmPartition partition)
{
    /// <summary>A port that no PC device has, and no KVM either.</summary>
    public const byte Port = 0xEE;

    private const byte OutImmediate = 0xE6, OutDx = 0xEE;

    private readonly Dictionary<ulong, Entry> _entries = [];
    private (DescriptorTable Idtr, DescriptorTable Gdtr, ulong Lstar, ulong Cstar, ulong Sysenter, ulong Cr3, CpuMode Mode) _source;
    private readonly List<Entry> _armed = [];
    private byte[] _table = [];

    /// <summary>The first instruction of a handler, or another one to stop at.</summary>
    public sealed record Entry(ulong Linear, ulong Rip, nint First, nint Second)
    {
        /// <summary>The vectors whose gates lead here; empty for system calls.</summary>
        public List<int> Vectors { get; } = [];

        /// <summary>Bytes that a slot of the interrupt frame has.</summary>
        public int SlotSize { get; init; }

        public byte FirstSaved { get; set; }

        public byte SecondSaved { get; set; }

        public byte FirstTrap { get; set; }

        /// <summary>The guest's own where the trap is the first byte alone.</summary>
        public byte SecondTrap { get; set; }

        /// <summary>Of the OUT.</summary>
        public int TrapLength { get; set; }

        public ushort TrapPort { get; set; }
    }

    public bool IsArmed { get; private set; }

    /// <summary>
    /// Looks the handlers up anew when what leads to them has changed, and puts the traps in, but for one at <paramref name="begin"/>, where the step begins. Exceptions and system calls
    /// can always come; of the other vectors <paramref name="vector"/>, if any, or with <paramref name="anyVector"/> all.
    /// </summary>
    public void Arm(VcpuState* s, ulong begin, int vector, bool anyVector)
    {
        var source = (s->Idtr, s->Gdtr, s->Lstar, s->Cstar, s->SysenterEip, s->Cr3, s->Mode);
        byte[] table = ReadTable(s);
        if (source != _source || !table.AsSpan().SequenceEqual(_table))
        {
            (_source, _table) = (source, table);
            _entries.Clear();
            Collect(s);
        }

        foreach (Entry e in _entries.Values)
        {
            if (e.Linear != begin && (anyVector || e.Vectors.Count == 0 || e.Vectors[0] < 32 || e.Vectors.Contains(vector)))
                Put(e, begin, (ushort)s->Gpr[(int)Gpr.Rdx]);
        }

        IsArmed = true;
    }

    /// <summary>One more, at <paramref name="linear"/>, which is no handler; for this step only.</summary>
    public void ArmAlso(VcpuState* s, ulong linear, ulong rip)
    {
        byte* first = Locate(s, linear), second = Locate(s, linear + 1);
        if (first is not null && second is not null)
            Put(new Entry(linear, rip, (nint)first, (nint)second), linear, 0);
    }

    /// <summary>
    /// Where the step begins at the second byte only the first is changed: then the OUT's port is the one in the guest's DX, or the one that the second byte names. Where KVM itself answers at
    /// both there is no trap, and what enters this handler right behind its own first instruction is run through.
    /// </summary>
    private void Put(Entry e, ulong begin, ushort dx)
    {
        byte* first = (byte*)e.First, second = (byte*)e.Second;
        (e.FirstSaved, e.SecondSaved) = (*first, *second);
        (e.FirstTrap, e.SecondTrap, e.TrapLength, e.TrapPort) =
            e.Linear + 1 != begin ? (OutImmediate, Port, 2, Port)
            : AnswersItself(dx) ? (OutImmediate, *second, 2, *second)
            : (OutDx, *second, 1, dx);
        if (AnswersItself(e.TrapPort))
            return;
        (*first, *second) = (e.FirstTrap, e.SecondTrap);
        _armed.Add(e);
    }

    /// <summary>KVM's PIC, PIT, its gate and the ELCR.</summary>
    private bool AnswersItself(ushort port) =>
        partition.InterruptController is not null && port is 0x20 or 0x21 or 0xA0 or 0xA1 or (>= 0x40 and <= 0x43) or 0x61 or 0x4D0 or 0x4D1;

    /// <summary>What the guest has written there meanwhile stays.</summary>
    public void Disarm()
    {
        // In reverse: two handlers may be so near that their traps overlap.
        for (int i = _armed.Count - 1; i >= 0; i--)
        {
            Entry e = _armed[i];
            if (*(byte*)e.First == e.FirstTrap)
                *(byte*)e.First = e.FirstSaved;
            if (*(byte*)e.Second == e.SecondTrap)
                *(byte*)e.Second = e.SecondSaved;
        }

        _armed.Clear();
        IsArmed = false;
    }

    /// <summary>The entry whose first instruction is at CS base + RIP, and next.</summary>
    public Entry? StandingAt(ulong linear) => _armed.FirstOrDefault(e => e.Linear == linear);

    /// <summary>The entry whose OUT to <paramref name="port"/> was executed, given CS base + RIP then: KVM has gone past it or not.</summary>
    public Entry? At(ulong linear, ushort port) =>
        _armed.FirstOrDefault(e => e.Linear == linear && e.TrapPort == port) ?? _armed.FirstOrDefault(e => e.Linear + (ulong)e.TrapLength == linear && e.TrapPort == port);

    /// <summary>The IDT as it is now, as far as it is mapped: a guest may change a gate at any time.</summary>
    private byte[] ReadTable(VcpuState* s)
    {
        var table = new byte[Math.Min(s->Idtr.Limit + 1, 4096)];
        for (int done = 0; done < table.Length;)
        {
            ulong at = s->Idtr.Base + (ulong)done;
            int part = Math.Min(table.Length - done, 4096 - (int)(at & 4095));
            if (Locate(s, at) is var p && p is not null)
                new ReadOnlySpan<byte>(p, part).CopyTo(table.AsSpan(done));
            done += part;
        }

        return table;
    }

    private void Collect(VcpuState* s)
    {
        for (int vector = 0; vector < 256; vector++)
        {
            (ulong Linear, ulong Rip, int Slot)? target = !s->IsProtected ? RealVector(s, vector) : Gate(s, vector);
            if (target is { } t)
                Add(s, t.Linear, t.Rip, t.Slot)?.Vectors.Add(vector);
        }

        foreach (ulong rip in (ReadOnlySpan<ulong>)[s->Lstar, s->Cstar, s->SysenterEip])
        {
            if (rip != 0)
                Add(s, rip, rip, 0);
        }
    }

    private Entry? Add(VcpuState* s, ulong linear, ulong rip, int slot)
    {
        if (_entries.TryGetValue(linear, out Entry? known))
            return known;
        byte* first = Locate(s, linear), second = Locate(s, linear + 1);
        // What is not mapped cannot be entered without another exception first.
        if (first is null || second is null)
            return null;
        return _entries[linear] = new Entry(linear, rip, (nint)first, (nint)second) { SlotSize = slot };
    }

    private byte* Locate(VcpuState* s, ulong linear) => KvmPageWalk.TryTranslate(partition, s, linear, out ulong gpa) ? partition.Find(gpa) : null;

    private static (ulong, ulong, int) Target(ulong csBase, ulong rip, int slot) => (slot == 8 ? rip : (uint)(csBase + rip), rip, slot);

    private (ulong, ulong, int)? RealVector(VcpuState* s, int vector) =>
        vector * 4 + 3 <= s->Idtr.Limit && TryRead(s, s->Idtr.Base + (ulong)vector * 4, 4, out ulong v) ? Target((v >> 16 & 0xFFFF) << 4, v & 0xFFFF, 2) : null;

    /// <summary>SDM Vol. 3A §6.11 and §6.14.1.</summary>
    private (ulong, ulong, int)? Gate(VcpuState* s, int vector)
    {
        bool isLong = s->IsLongMode;
        int size = isLong ? 16 : 8;
        ulong at = s->Idtr.Base + (ulong)(vector * size);
        if (vector * size + size - 1 > s->Idtr.Limit || !TryRead(s, at, 8, out ulong low) || (low >> 47 & 1) == 0)
            return null;
        int type = (int)(low >> 40 & 0x1F);
        bool wide = type is 0xE or 0xF;
        // Task gates lead to no single place.
        if (!wide && type is not (6 or 7))
            return null;
        ulong offset = (low & 0xFFFF) | (wide ? low >> 32 & 0xFFFF_0000 : 0);
        if (!isLong)
            return CodeBase(s, (ushort)(low >> 16)) is { } csBase ? Target(csBase, offset, wide ? 4 : 2) : null;
        return TryRead(s, at + 8, 8, out ulong high) ? Target(0, offset | high << 32, 8) : null;
    }

    private ulong? CodeBase(VcpuState* s, ushort selector)
    {
        ulong table = (selector & 4) != 0 ? s->LDTR.Base : s->Gdtr.Base;
        return TryRead(s, table + (uint)(selector & ~7), 8, out ulong d) ? (d >> 16 & 0xFF_FFFF) | (d >> 32 & 0xFF00_0000) : null;
    }

    private bool TryRead(VcpuState* s, ulong linear, int length, out ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        bytes.Clear();
        value = 0;
        for (int i = 0; i < length; i++)
        {
            // Byte by byte: a table may cross a page anywhere.
            byte* p = Locate(s, linear + (ulong)i);
            if (p is null)
                return false;
            bytes[i] = *p;
        }

        value = BinaryPrimitives.ReadUInt64LittleEndian(bytes);
        return true;
    }
}
