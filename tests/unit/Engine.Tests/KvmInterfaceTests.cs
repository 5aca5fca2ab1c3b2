using System.Buffers.Binary;
using VirtPS.Engine.Enlightenments;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Engine.Tests;

/// <summary>KVM's interface as the machine answers it, asked by a small guest under Full: right and wrong arguments, each register and call.</summary>
public sealed class KvmInterfaceTests
{
    private const uint Place = 0x3000, NoMemory = 0xF000_0000;
    private const int Gp = 13, Ud = 6;

    /// <summary>Bytes of RAM of the guest's machine.</summary>
    private const uint End = CommandGuest.RamSize;

    [Fact]
    public void Writes_that_make_no_sense_are_refused()
    {
        (uint Msr, ulong Value)[] bad =
        [
            (KvmInterface.SystemTime, Place | 3), (KvmInterface.SystemTime, NoMemory | 1), (KvmInterface.SystemTime, (End - 16) | 1), (KvmInterface.SystemTime, ulong.MaxValue & ~2ul),
            (KvmInterface.StealTime, Place | 0x21), (KvmInterface.StealTime, Place | 0x3), (KvmInterface.StealTime, NoMemory | 1), (KvmInterface.StealTime, 0x7FFF_FFFF_FFFF_FFC1),
            (KvmInterface.PvEoi, Place | 3), (KvmInterface.PvEoi, NoMemory | 1), (KvmInterface.PvEoi, End | 1),
            (KvmInterface.WallClock, Place | 2), (KvmInterface.WallClock, NoMemory), (KvmInterface.WallClock, End - 8),
            (KvmInterface.AsyncPageFault, 0), (KvmInterface.PollControl, 0), (KvmInterface.AsyncPageFaultVector, 0xF3), (KvmInterface.AsyncPageFaultAcknowledge, 1), (KvmInterface.LastMsr, 0),
        ];
        using var guest = new CommandGuest();
        CommandGuest.Answer[] answers = guest.Run([.. bad.Select(b => CommandGuest.Write(b.Msr, b.Value))]);
        for (int i = 0; i < bad.Length; i++)
            Assert.True(answers[i].Fault == Gp, $"0x{bad[i].Msr:X} = 0x{bad[i].Value:X} gave fault {answers[i].Fault}");
    }

    /// <summary>Off is always right, whatever else the address is; what was written reads back.</summary>
    [Fact]
    public void What_is_registered_reads_back_and_what_is_not_offered_does_not_read()
    {
        using var guest = new CommandGuest();
        CommandGuest.Answer[] answers = guest.Run(
            CommandGuest.Write(KvmInterface.SystemTime, Place | 1), CommandGuest.Read(KvmInterface.SystemTime),
            CommandGuest.Write(KvmInterface.SystemTime, NoMemory), CommandGuest.Read(KvmInterface.SystemTime),
            CommandGuest.Write(KvmInterface.StealTime, 0x3041), CommandGuest.Read(KvmInterface.StealTime),
            CommandGuest.Write(KvmInterface.PvEoi, 0x3105), CommandGuest.Read(KvmInterface.PvEoi),
            CommandGuest.Write(KvmInterface.WallClock, 0x3200), CommandGuest.Read(KvmInterface.WallClock),
            CommandGuest.Read(KvmInterface.PollControl), CommandGuest.Read(KvmInterface.AsyncPageFault), CommandGuest.Read(0x12));
        Assert.Equal([0x3001ul, NoMemory, 0x3041, 0x3105, 0x3200], answers.Take(10).Where((_, i) => i % 2 == 1).Select(a => a.Value));
        Assert.All(answers.Take(10), a => Assert.Equal(0, a.Fault));
        Assert.All(answers.Skip(10), a => Assert.Equal(Gp, a.Fault));
    }

    [Fact]
    public void The_clock_record_gives_VM_time_and_says_after_a_pause_that_there_was_one()
    {
        using var guest = new CommandGuest();
        guest.Run(CommandGuest.Write(KvmInterface.SystemTime, Place | 1));
        AssertClock(guest, KvmInterface.TscStable);
        guest.Machine.Pause();
        guest.Machine.Resume();
        guest.Run(CommandGuest.Read(KvmInterface.SystemTime));
        AssertClock(guest, KvmInterface.TscStable | KvmInterface.GuestStopped);
    }

    /// <summary>The record is in ticks of the vCPU's own TSC: when the guest sets that, the record has followed before the next instruction.</summary>
    [Fact]
    public void The_clock_follows_a_TSC_that_the_guest_sets()
    {
        using var guest = new CommandGuest();
        guest.Run(CommandGuest.Write(KvmInterface.SystemTime, Place | 1), CommandGuest.Write(Msr.Tsc, 123), CommandGuest.ReadClock(Place));
        CommandGuest.Answer[] answers = guest.Run(CommandGuest.Write(Msr.TscAdjust, 1ul << 40), CommandGuest.ReadClock(Place));
        AssertClock(guest, KvmInterface.TscStable);
        ulong vm = guest.Machine.Clock.Now;
        Assert.True(vm - answers[1].Value < 5_000_000_000, $"the guest read {answers[1].Value}, VM time is {vm}");
    }

    [Fact]
    public void The_wall_clock_is_the_date_at_power_on()
    {
        using var guest = new CommandGuest();
        guest.Run(CommandGuest.Write(KvmInterface.WallClock, Place));
        byte[] record = guest.Memory(Place, KvmInterface.WallClockSize);
        Assert.Equal(0u, BinaryPrimitives.ReadUInt32LittleEndian(record) & 1);
        DateTimeOffset date = DateTimeOffset.UnixEpoch.AddSeconds(BinaryPrimitives.ReadUInt32LittleEndian(record.AsSpan(4))).AddTicks(BinaryPrimitives.ReadUInt32LittleEndian(record.AsSpan(8)) / 100);
        Assert.Equal(guest.Machine.Clock.PowerOnUtc, date);
    }

    /// <summary>By either instruction; numbers and arguments that make no sense have an answer, too.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public void Hypercalls_answer(int vcpus)
    {
        const uint EveryApic = uint.MaxValue;
        bool several = vcpus > 1;
        ((uint, uint, uint, uint, uint) Call, int Result)[] calls =
        [
            ((KvmInterface.VapicPollIrq, 0, 0, 0, 0), 0), ((0, 0, 0, 0, 0), -1000), ((0x7FFF_FFFF, 1, 2, 3, 4), -1000), ((12, 0, 0, 0, 0), -1000),
            ((KvmInterface.ClockPairing, NoMemory, 0, 0, 0), -95),
            ((KvmInterface.KickCpu, 0, 77, 0, 0), several ? 0 : -1000), ((KvmInterface.KickCpu, 0, EveryApic, 0, 0), several ? 0 : -1000),
            ((KvmInterface.SchedYield, 1, 0, 0, 0), several ? 0 : -1000), ((KvmInterface.SchedYield, EveryApic, 0, 0, 0), several ? 0 : -1000),
            // Beyond all processors; a broadcast id; a logical destination; a shorthand; INIT and SIPI.
            ((KvmInterface.SendIpi, EveryApic, EveryApic, 2, 0x40), several ? 0 : -1000), ((KvmInterface.SendIpi, 0xFF, 0, 0xFFFF_FFF8, 0x40), several ? 0 : -1000),
            ((KvmInterface.SendIpi, 2, 0, 0, 0x840), several ? -22 : -1000), ((KvmInterface.SendIpi, 2, 0, 0, 0x4_0040), several ? -22 : -1000),
            ((KvmInterface.SendIpi, 2, 0, 0, 0x500), several ? -22 : -1000), ((KvmInterface.SendIpi, 2, 0, 0, 0x608), several ? -22 : -1000),
        ];
        using var guest = new CommandGuest(vcpus);
        foreach (bool amd in (ReadOnlySpan<bool>)[false, true])
        {
            CommandGuest.Answer[] answers = guest.Run([.. calls.Select(c => CommandGuest.Call(c.Call.Item1, c.Call.Item2, c.Call.Item3, c.Call.Item4, c.Call.Item5, amd))]);
            for (int i = 0; i < calls.Length; i++)
                Assert.True(answers[i].Fault == 0 && (int)answers[i].Value == calls[i].Result, $"{calls[i].Call}: fault {answers[i].Fault}, result {(int)answers[i].Value}, expected {calls[i].Result}");
        }
    }

    /// <summary>A processor that halted with interrupts off goes on when kicked; then it takes an interrupt that was sent by hypercall.</summary>
    [Fact]
    public void A_kick_ends_HLT_and_IPIs_arrive()
    {
        using var guest = new CommandGuest(2);
        CommandGuest.Answer[] answers = guest.Run(
            CommandGuest.Write(CommandGuest.X2Command, 1ul << 32 | 0x4500), CommandGuest.Write(CommandGuest.X2Command, 1ul << 32 | 0x4600 | CommandGuest.SecondCode >> 12),
            CommandGuest.WaitFor(CommandGuest.SecondHalts), CommandGuest.Call(KvmInterface.KickCpu, 0, 1, 0, 0), CommandGuest.WaitFor(CommandGuest.Kicked),
            CommandGuest.Call(KvmInterface.SendIpi, 2, 0, 0, CommandGuest.IpiVector), CommandGuest.WaitFor(CommandGuest.Interrupted),
            CommandGuest.Call(KvmInterface.SendIpi, 7, 0, 0, CommandGuest.IpiVector));
        Assert.Equal([0ul, 1, 2], new[] { answers[3].Value, answers[5].Value, answers[7].Value });
    }

    /// <summary>The guest ends its interrupt by clearing a bit in place of writing EOI: the next comes, and the local APIC has none in service.</summary>
    [Fact]
    public void An_interrupt_is_ended_in_memory()
    {
        using var guest = new CommandGuest();
        CommandGuest.Command self = CommandGuest.Write(CommandGuest.X2Command, 1 << 18 | CommandGuest.EoiVector);
        CommandGuest.Answer[] answers = guest.Run(
            CommandGuest.Write(KvmInterface.PvEoi, CommandGuest.EoiWord | 1), self, self, self, CommandGuest.Read(0x812), CommandGuest.Read(0x822));
        Assert.Equal(0ul, answers[4].Value & 2);
        Assert.Equal(0ul, answers[5].Value & 2);
        // A tick of the timer that waits at the same moment takes one of them away.
        Assert.True(guest.Word(CommandGuest.EndedInMemory) >= 1, $"{guest.Word(CommandGuest.EndedInMemory)} ended in memory, {guest.Word(CommandGuest.EndedByWrite)} by EOI");
        Assert.Equal(3u, guest.Word(CommandGuest.EndedInMemory) + guest.Word(CommandGuest.EndedByWrite));
        Assert.Equal(0u, guest.Word(CommandGuest.EoiWord) & 1);
    }

    /// <summary>While it is halted others see it as preempted; what they leave there is taken when it wakes.</summary>
    [Fact]
    public void A_halted_processor_shows_as_preempted()
    {
        using var guest = new CommandGuest();
        guest.Run(CommandGuest.Write(KvmInterface.StealTime, Place | 1));
        const uint Preempted = Place + 16;
        Assert.True(Make.Within(5, () => guest.Memory(Preempted, 1)[0] == KvmInterface.Preempted));
        Assert.True(guest.Machine.Memory.TryWrite(Preempted, [KvmInterface.Preempted | KvmInterface.FlushTlb]));
        guest.Run(CommandGuest.ReadMemory(Preempted));
        Assert.True(Make.Within(5, () => guest.Memory(Preempted, 1)[0] == KvmInterface.Preempted));
    }

    [Fact]
    public void Registers_move_with_the_guest_and_a_reset_forgets_them()
    {
        using var guest = new CommandGuest();
        guest.Run(CommandGuest.Write(KvmInterface.SystemTime, Place | 1), CommandGuest.Write(KvmInterface.StealTime, 0x3041), CommandGuest.Write(KvmInterface.PvEoi, 0x3105), CommandGuest.Write(KvmInterface.WallClock, 0x3200));
        guest.Machine.Pause();
        MachineState state = MachineState.FromJson(guest.Machine.Save().ToJson());
        Assert.Equal(new KvmVcpuState(0x3001, 0x3041, 0x3105, false), Assert.Single(state.Kvm!.Vcpus));
        Assert.Equal(0x3200ul, state.Kvm.WallClock);
        guest.Machine.Reset();
        Assert.Equal(new KvmVcpuState(0, 0, 0, false), Assert.Single(guest.Machine.Save().Kvm!.Vcpus));

        using var other = new CommandGuest(start: false);
        other.Machine.Restore(state);
        Assert.Equal(state.Kvm.Vcpus, other.Machine.Save().Kvm!.Vcpus);
        using var plain = new CommandGuest(enlightenment: "None", start: false);
        Assert.Contains("do not tell their guests alike", Assert.Throws<Sdk.VirtException>(() => plain.Machine.Restore(state)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void A_bare_PC_has_none_of_it()
    {
        using var guest = new CommandGuest(enlightenment: "None");
        CommandGuest.Answer[] answers = guest.Run(CommandGuest.Write(KvmInterface.SystemTime, Place | 1), CommandGuest.Read(KvmInterface.StealTime), CommandGuest.Call(KvmInterface.VapicPollIrq, 0, 0, 0, 0));
        Assert.Equal([Gp, Gp, Ud], answers.Select(a => a.Fault));
    }

    /// <summary>Ring 3 may not call; a call from 32-bit code has 32-bit arguments and result.</summary>
    [Fact]
    public unsafe void Only_ring_0_calls()
    {
        ulong[] results = new ulong[3];
        var strategy = new ScriptedStrategy(v =>
        {
            v.State->Cr0 |= Cr0.PE;
            results[0] = Call(v, 3, KvmInterface.VapicPollIrq);
            results[1] = Call(v, 0, 0xFFFF_FFFF_0000_0000 | KvmInterface.VapicPollIrq);
            v.State->Efer = Efer.LMA;
            v.State->CS = new SegmentRegister(8, 0, uint.MaxValue, 0xA09B);
            results[2] = Call(v, 0, 0xFFFF_FFFF_0000_0000 | KvmInterface.VapicPollIrq);
            return v.Spin();
        }) { Cpuid = new CpuidPolicy([]).WithKvm(CpuidPolicy.MachineKvmFeatures(1)) };
        using Machine machine = Make.Builder(strategy).Build();
        machine.PowerOn();
        Assert.True(Make.Within(5, () => strategy.Vcpus[0].Steps > 0));
        Assert.Equal([0xFFFF_FFFF, 0ul, unchecked((ulong)-1000)], results);

        static ulong Call(ScriptedVcpu v, byte ring, ulong number)
        {
            v.State->Cpl = ring;
            v.State->Gpr[(int)Gpr.Rax] = number;
            Assert.True(v.Host.Hypercall(v.State));
            v.State->Cpl = 0;
            return v.State->Gpr[(int)Gpr.Rax];
        }
    }

    /// <summary>Whatever the TSC's frequency: the guest's arithmetic gives nanoseconds, to less than one in 2³⁰.</summary>
    [Theory]
    [InlineData(1_000_000_000)]
    [InlineData(2_596_118_000)]
    [InlineData(100_000_000)]
    [InlineData(999_999_999)]
    [InlineData(5_400_000_001)]
    public void Multiplier_and_shift_give_nanoseconds(ulong frequency)
    {
        using var guest = new CommandGuest(tscFrequency: frequency);
        guest.Run(CommandGuest.Write(KvmInterface.SystemTime, Place | 1));
        AssertClock(guest, KvmInterface.TscStable);
        byte[] record = guest.Memory(Place, KvmInterface.SystemTimeSize);
        (uint multiplier, sbyte shift) = (BinaryPrimitives.ReadUInt32LittleEndian(record.AsSpan(24)), (sbyte)record[28]);
        foreach (ulong seconds in (ReadOnlySpan<ulong>)[1, 60, 86_400])
        {
            ulong exact = seconds * 1_000_000_000;
            Assert.InRange(Nanoseconds(seconds * frequency, multiplier, shift), exact - (exact >> 30) - 2, exact);
        }
    }

    private static ulong Nanoseconds(ulong ticks, uint multiplier, sbyte shift) => (ulong)(((UInt128)(shift < 0 ? ticks >> -shift : ticks << shift) * multiplier) >> 32);

    private static void AssertClock(CommandGuest guest, byte flags)
    {
        byte[] record = guest.Memory(Place, KvmInterface.SystemTimeSize);
        uint version = BinaryPrimitives.ReadUInt32LittleEndian(record);
        Assert.True(version != 0 && version % 2 == 0, $"version {version}");
        Assert.Equal(flags, record[29]);
        MachineRegisters registers = guest.Machine.CaptureRegisters(0);
        ulong ticks = registers.Tsc - BinaryPrimitives.ReadUInt64LittleEndian(record.AsSpan(8));
        ulong shown = BinaryPrimitives.ReadUInt64LittleEndian(record.AsSpan(16)) + Nanoseconds(ticks, BinaryPrimitives.ReadUInt32LittleEndian(record.AsSpan(24)), (sbyte)record[28]);
        ulong now = guest.Machine.Clock.Now;
        Assert.True(now >= shown && now - shown < 1_000_000_000, $"the record gives {shown}, VM time is {now}");
    }
}
