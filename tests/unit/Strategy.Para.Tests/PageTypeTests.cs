using VirtPS.Sdk.Cpu;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>A malicious kernel: every way to get hold of a page table or of what is not its own is refused, and leaves nothing behind.</summary>
public sealed class PageTypeTests
{
    private const ulong P = PageBits.P, RW = PageBits.RW, US = PageBits.US, Writable = P | RW | US | PageBits.A, ReadOnly = P | US | PageBits.A;
    private const uint PinL1 = 0, PinL2 = 1, PinL3 = 2, PinL4 = 3, Unpin = 4, NewRoot = 5, NewUserRoot = 15, SetLdt = 13;
    private const ulong A = TestDomain.Free, B = TestDomain.Free + 1, C = TestDomain.Free + 2;

    /// <summary>An empty page table of a level, read-only to the kernel, pinned.</summary>
    private static void MakeTable(TestDomain d, ulong frame, uint pin)
    {
        Assert.Equal(0, d.Remap(frame, ReadOnly));
        Assert.Equal(0, d.Extended(pin, frame));
    }

    [Fact]
    public void A_new_domain_is_sound()
    {
        using var d = new TestDomain();
        d.AssertSound();
        Assert.Equal(FrameType.L4, d.TypeOf(d.Root));
        Assert.Equal(FrameType.Writable, d.TypeOf(A));
    }

    [Fact]
    public void A_page_that_is_mapped_writable_does_not_become_a_page_table()
    {
        using var d = new TestDomain();
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, A));
        Assert.Equal(FrameType.Writable, d.TypeOf(A));
        d.AssertSound();
    }

    [Fact]
    public void A_page_table_is_not_mapped_writable_again()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL1);
        Assert.Equal(Errno.EINVAL, d.Remap(A, Writable));
        Assert.Equal(Errno.EINVAL, d.Update(d.EntryOf(TestDomain.Linear(B)), (A << 12) | Writable));
        Assert.Equal(Errno.EINVAL, d.Update(d.EntryOf(TestDomain.Linear(A)) | 2, (A << 12) | Writable));
        d.AssertSound();
    }

    [Fact]
    public void After_its_last_use_a_page_table_is_memory_again()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL1);
        Assert.Equal(0, d.Extended(Unpin, A));
        Assert.Equal(0, d.Remap(A, Writable));
        Assert.Equal(FrameType.Writable, d.TypeOf(A));
        d.AssertSound();
    }

    [Fact]
    public void The_root_in_use_cannot_be_written()
    {
        using var d = new TestDomain();
        Assert.Equal(Errno.EINVAL, d.Remap(d.Root, Writable));
        d.AssertSound();
    }

    [Theory]
    [InlineData(PinL1, PinL2)]
    [InlineData(PinL1, PinL4)]
    [InlineData(PinL2, PinL1)]
    [InlineData(PinL3, PinL4)]
    [InlineData(PinL4, PinL1)]
    public void A_table_of_one_level_is_not_one_of_another(uint first, uint second)
    {
        using var d = new TestDomain();
        MakeTable(d, A, first);
        Assert.Equal(Errno.EINVAL, d.Extended(second, A));
        d.AssertSound();
    }

    [Fact]
    public void A_table_with_an_entry_that_maps_a_table_writable_is_refused_whole()
    {
        using var d = new TestDomain();
        d.Poke(A << 12, (B << 12) | Writable);
        d.Poke((A << 12) + 8, (C << 12) | ReadOnly);
        d.Poke((A << 12) + 16, (d.Root << 12) | Writable);
        uint before = d.UsesOf(B);
        Assert.Equal(0, d.Remap(A, ReadOnly));
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, A));
        Assert.Equal(before, d.UsesOf(B));
        d.AssertSound();
    }

    [Fact]
    public void A_table_that_maps_itself_writable_is_refused()
    {
        using var d = new TestDomain();
        d.Poke(A << 12, (A << 12) | Writable);
        Assert.Equal(0, d.Remap(A, ReadOnly));
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, A));
        d.AssertSound();
    }

    [Theory]
    [InlineData(0x1000)] // behind the RAM, before the VMM's area
    [InlineData(0x7FFF_FFFF)]
    [InlineData(0xFF_FFFF_FFFF)]
    public void A_frame_that_is_not_the_guests_is_not_mapped(ulong mfn)
    {
        using var d = new TestDomain();
        ulong entry = d.EntryOf(TestDomain.Linear(A));
        Assert.Equal(Errno.EINVAL, d.Update(entry, (mfn << 12) | ReadOnly));
        Assert.Equal(Errno.EINVAL, d.Update(entry, (mfn << 12) | Writable));
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, mfn));
        d.AssertSound();
    }

    [Fact]
    public void Of_the_VMMs_frames_the_guest_maps_what_is_shared_and_nothing_else()
    {
        using var d = new TestDomain();
        ulong entry = d.EntryOf(TestDomain.Linear(A));
        XenArea area = d.Domain.Area;
        Assert.Equal(0, d.Update(entry, (area.FirstFrame << 12) | Writable));
        Assert.Equal(0, d.Update(entry, (area.GrantFrame(0) << 12) | Writable));
        for (ulong mfn = area.FirstFrame + area.SharedFrames; mfn < area.Slot.End >> 12; mfn++)
            Assert.Equal(Errno.EINVAL, d.Update(entry, (mfn << 12) | ReadOnly));
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, area.FirstFrame));
        d.AssertSound();
    }

    [Fact]
    public void Large_pages_are_refused()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL2);
        Assert.Equal(Errno.EINVAL, d.Update(A << 12, PageBits.PS | Writable));
        d.AssertSound();
    }

    [Fact]
    public void The_hypervisors_slots_are_not_the_guests()
    {
        using var d = new TestDomain();
        for (ulong slot = 256; slot < 272; slot++)
            Assert.Equal(Errno.EINVAL, d.Update((d.Root << 12) + slot * 8, 0));
        d.AssertSound();
    }

    [Fact]
    public void What_a_guest_puts_into_the_hypervisors_slots_of_a_new_root_is_gone()
    {
        using var d = new TestDomain();
        d.Poke((A << 12) + 256 * 8, (B << 12) | Writable);
        MakeTable(d, A, PinL4);
        Assert.Equal(d.Peek((d.Root << 12) + 256 * 8) & ~PageBits.A, d.Peek((A << 12) + 256 * 8) & ~PageBits.A);
        d.AssertSound();
    }

    [Fact]
    public void A_root_that_maps_itself_as_a_lower_table_is_refused()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL4);
        Assert.Equal(Errno.EINVAL, d.Update((A << 12) + 8, (A << 12) | Writable));
        d.AssertSound();
    }

    [Fact]
    public void A_root_without_the_kernel_is_taken_and_given_back()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL4);
        Assert.Equal(0, d.Extended(NewUserRoot, A));
        Assert.Equal(0, d.Extended(Unpin, A));
        Assert.Equal(FrameType.L4, d.TypeOf(A));
        Assert.Equal(Errno.EINVAL, d.Remap(A, Writable));
        d.AssertSound();
        Assert.Equal(0, d.Extended(NewUserRoot, 0));
        Assert.Equal(0, d.Remap(A, Writable));
        d.AssertSound();
    }

    [Fact]
    public void A_root_must_be_a_page_table()
    {
        using var d = new TestDomain();
        Assert.Equal(Errno.EINVAL, d.Extended(NewRoot, A));
        Assert.Equal(Errno.EINVAL, d.Extended(NewUserRoot, A));
        d.AssertSound();
    }

    [Fact]
    public void A_pin_is_taken_once_and_given_back_once()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL1);
        Assert.Equal(Errno.EINVAL, d.Extended(PinL1, A));
        Assert.Equal(0, d.Extended(Unpin, A));
        Assert.Equal(Errno.EINVAL, d.Extended(Unpin, A));
        Assert.Equal(Errno.EINVAL, d.Extended(Unpin, B));
        d.AssertSound();
    }

    [Fact]
    public void A_write_through_a_translation_made_before_does_not_reach_a_page_table()
    {
        // mov [r9],r8 ; mov rax,13 … : the kernel's own store fills the TLB, then the page becomes a table without any flush.
        using var d = new TestDomain(code: [0x4D, 0x89, 0x01, 0xEB, 0xFE]);
        d.Machine.RunOnVcpu(0, v => Run(v, A, 1));
        Assert.Equal(1ul, d.Peek(A << 12));
        d.Poke(A << 12, 0);
        Assert.Equal(0, d.Call(Hypercall.UpdateVaMapping, TestDomain.Linear(A), (A << 12) | ReadOnly, 0));
        Assert.Equal(0, d.Extended(PinL1, A));
        d.Machine.RunOnVcpu(0, v => Run(v, A, (B << 12) | Writable));
        // The store was carried out as a checked update, or it faulted: never as a plain store that nobody counted.
        d.AssertSound();
    }

    /// <summary>What leads from code to code is kept over a flush as long as this stays the same (<see cref="IDeprivilegedVcpu.FlushTranslationsKeepingCode"/>).</summary>
    [Fact]
    public void Only_mappings_of_executable_pages_count_as_changes_of_code()
    {
        using var d = new TestDomain();
        ulong Changes(ulong bits)
        {
            ulong before = d.Domain.Types.CodeChanges;
            Assert.Equal(0, d.Remap(A, bits));
            return d.Domain.Types.CodeChanges - before;
        }

        Assert.Equal(1ul, Changes(Writable | PageBits.NX));
        Assert.Equal(0ul, Changes(ReadOnly | PageBits.NX));
        Assert.Equal(0ul, Changes(ReadOnly));
        Assert.Equal(1ul, Changes(Writable));
        // It is gone.
        ulong changes = d.Domain.Types.CodeChanges;
        Assert.Equal(0, d.Call(Hypercall.UpdateVaMapping, TestDomain.Linear(A), 0, 2));
        Assert.Equal(changes + 1, d.Domain.Types.CodeChanges);
    }

    private static unsafe int Run(IVcpu v, ulong frame, ulong value)
    {
        VcpuState* s = v.State;
        s->Rip = PvImage.Entry;
        s->Gpr[(int)Gpr.R9] = TestDomain.Linear(frame);
        s->Gpr[(int)Gpr.R8] = value;
        // What its runner would serve before it enters guest code.
        s->Requests = 0;
        Assert.Equal(VcpuExit.SingleStep, v.SingleStep());
        s->Rip = PvImage.Entry;
        return 0;
    }

    [Fact]
    public void System_descriptors_are_refused()
    {
        const ulong callGate = 0x0000_EC00_0010_0000, taskState = 0x0000_8900_0000_0067;
        using var d = new TestDomain();
        foreach (ulong bad in (ulong[])[callGate, taskState])
        {
            Assert.Equal(Errno.EINVAL, d.Call(Hypercall.UpdateDescriptor, A << 12, bad));
            d.Poke((A << 12) + 8, bad);
            Assert.Equal(0, d.Remap(A, ReadOnly));
            d.Poke(TestDomain.Scratch, A);
            Assert.Equal(Errno.EINVAL, d.Call(Hypercall.SetGdt, TestDomain.ScratchLinear, 16));
            Assert.Equal(0, d.Remap(A, Writable));
        }

        d.AssertSound();
    }

    [Fact]
    public void A_descriptor_table_is_read_only_and_of_ring_3()
    {
        const ulong ring0Code = 0x00AF_9A00_0000_FFFF;
        using var d = new TestDomain();
        d.Poke((A << 12) + 16, ring0Code);
        d.Poke(TestDomain.Scratch, A);
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.SetGdt, TestDomain.ScratchLinear, 16));
        Assert.Equal(0, d.Remap(A, ReadOnly));
        d.Poke(TestDomain.Scratch, A);
        Assert.Equal(0, d.Call(Hypercall.SetGdt, TestDomain.ScratchLinear, 16));
        Assert.Equal(3ul, d.Peek((A << 12) + 16) >> 45 & 3);
        Assert.Equal(Errno.EINVAL, d.Remap(A, Writable));
        Assert.Equal(0, d.Call(Hypercall.UpdateDescriptor, (A << 12) + 24, ring0Code));
        Assert.Equal(3ul, d.Peek((A << 12) + 24) >> 45 & 3);
        d.AssertSound();
    }

    [Fact]
    public void More_descriptors_than_a_table_has_room_for_are_refused()
    {
        using var d = new TestDomain();
        Assert.Equal(Errno.EINVAL, d.Call(Hypercall.SetGdt, TestDomain.ScratchLinear, 14 * 512 + 1));
        Assert.Equal(Errno.EINVAL, d.Extended(SetLdt, TestDomain.Linear(A), 8193));
        d.AssertSound();
    }

    [Fact]
    public void An_update_of_plain_memory_is_a_store()
    {
        using var d = new TestDomain();
        Assert.Equal(0, d.Update((A << 12) + 24, 0x1234));
        Assert.Equal(0x1234ul, d.Peek((A << 12) + 24));
        d.AssertSound();
    }

    [Fact]
    public void Frames_in_use_are_not_given_back()
    {
        using var d = new TestDomain();
        Assert.Equal(0, Decrease(d, A));
        Assert.Equal(0, d.Update(d.EntryOf(TestDomain.Linear(A)), 0));
        Assert.Equal(1, Decrease(d, A));
        // No longer the guest's: it cannot be mapped until it is asked for again.
        Assert.Equal(Errno.EINVAL, d.Update(d.EntryOf(TestDomain.Linear(A)), (A << 12) | ReadOnly));
        d.AssertSound();
        Assert.Equal(1, Reservation(d, 6, A));
        Assert.Equal(A, d.Peek(TestDomain.Scratch + 256));
        Assert.Equal(0, d.Update(d.EntryOf(TestDomain.Linear(A)), (A << 12) | Writable));
        d.AssertSound();
    }

    private static long Decrease(TestDomain d, ulong frame) => Reservation(d, 1, frame);

    private static long Reservation(TestDomain d, ulong command, ulong frame)
    {
        d.Poke(TestDomain.Scratch + 256, frame);
        d.Poke(TestDomain.Scratch, TestDomain.ScratchLinear + 256);
        d.Poke(TestDomain.Scratch + 8, 1);
        d.Poke(TestDomain.Scratch + 16, 0);
        d.Poke(TestDomain.Scratch + 24, XenAbi.Self);
        return d.Call(Hypercall.MemoryOp, command, TestDomain.ScratchLinear);
    }

    [Fact]
    public void The_checker_finds_what_is_wrong()
    {
        using var d = new TestDomain();
        MakeTable(d, A, PinL1);
        // Behind everybody's back: the entry of a table made writable.
        ulong entry = d.EntryOf(TestDomain.Linear(A));
        d.Poke(entry, (A << 12) | Writable);
        Assert.Contains(PageTypeChecker.Check(d.Domain), f => f.Contains($"0x{A:X}", StringComparison.Ordinal));
    }
}
