using System.Runtime.InteropServices;
using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Opcodes;

/// <summary>Runs a sequence in the software vCPU: long mode, ring 3, paging on, the same linear addresses as the native side.</summary>
internal sealed unsafe class GuestRunner : IDisposable
{
    private const ulong RamSize = 1 << 20, TableArea = 0x1000, SystemArea = 0x40000, DataArea = 0x80000;
    private const ulong SystemLinear = 0xFFFF_8000_0000_0000, TssOffset = 0x800, IdtOffset = 0x1000, HandlerOffset = 0x2000, StackOffset = 0x4000;
    private const int PageStride = 2 * Layout.Page;
    private readonly Layout _layout;
    private readonly SoftBackend _backend;
    private readonly IPartition _partition;
    private readonly MemorySlot _slot;
    private readonly SoftVcpu _vcpu;
    private readonly OracleHost _host = new();
    private readonly ulong _root;
    private ulong _nextTable = TableArea;

    public GuestRunner(Layout layout, EngineOptions? engine = null)
    {
        _layout = layout;
        _backend = new SoftBackend(engine ?? new EngineOptions { Translate = Environment.GetEnvironmentVariable("VIRTPS_TEST_ENGINE") == "translator", HotAfter = 0 });
        _partition = _backend.CreatePartition(new PartitionOptions
        {
            VcpuCount = 1,
            Cpuid = new CpuidPolicy([]),
            TscFrequency = 1_000_000_000,
            Log = NullLog.Instance,
        });
        _slot = new MemorySlot("ram", 0, new HeapRegion(RamSize));
        _partition.MapMemory(_slot);
        _vcpu = (SoftVcpu)_partition.CreateVcpu(0, _host);
        _host.State = _vcpu.State;
        _root = NewTable();
        for (int i = 0; i < Layout.Pages; i++)
        {
            byte* page = layout.Base + i * Layout.Page;
            if (page != layout.CodeHole && page != layout.Hole)
                MapPage((ulong)page, DataArea + (ulong)(PageStride * i), page == layout.ReadOnly ? PageBits.US : PageBits.US | PageBits.RW);
        }

        for (ulong i = 0; i < StackOffset; i += Layout.Page)
            MapPage(SystemLinear + i, SystemArea + i, PageBits.RW);
        BuildTables();
        EnterLongMode(_root);
    }

    /// <summary>A GDT with the kernel's code segment, a TSS with its stack, and an IDT whose handlers halt.</summary>
    private void BuildTables()
    {
        byte* area = _slot.Address + SystemArea;
        *(ulong*)(area + 8) = 0x00AF_9B00_0000_FFFF;
        *(ulong*)(area + TssOffset + 4) = SystemLinear + StackOffset;
        // No I/O permission bitmap.
        *(ushort*)(area + TssOffset + 0x66) = 0x68;
        new Span<byte>(area + HandlerOffset, 256).Fill(0xF4);
        for (ulong vector = 0; vector < 256; vector++)
        {
            ulong handler = SystemLinear + HandlerOffset + vector;
            ulong* gate = (ulong*)(area + IdtOffset + 16 * vector);
            // INT3 and INTO are for everybody.
            ulong type = vector is Vector.BP or Vector.OF ? 0xEE00ul : 0x8E00ul;
            gate[0] = handler & 0xFFFF | 8ul << 16 | type << 32 | (handler >> 16 & 0xFFFF) << 48;
            gate[1] = handler >> 32;
        }
    }

    /// <summary>
    /// What the guest has where the native side has this byte; good up to the end of its page. Neighbours in linear address space are not neighbours in
    /// the guest's memory, so that an access over a page end that goes wrong shows.
    /// </summary>
    public byte* Guest(byte* native)
    {
        long offset = native - _layout.Base;
        return _slot.Address + DataArea + offset / Layout.Page * PageStride + offset % Layout.Page;
    }

    /// <summary>Copies native bytes to where the guest has them, page by page.</summary>
    public void CopyIn(byte* native, ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            int part = Math.Min(bytes.Length, Layout.Page - (int)((nint)native & (Layout.Page - 1)));
            bytes[..part].CopyTo(new Span<byte>(Guest(native), part));
            native += part;
            bytes = bytes[part..];
        }
    }

    public SoftVcpu Vcpu => _vcpu;

    /// <summary>Execute by <see cref="IVcpu.SingleStep"/> instead of in blocks.</summary>
    public bool StepSingly { get; init; }

    private VcpuExit StepTo(ulong end)
    {
        // A repeated string instruction may take one step per element.
        const int Limit = 10_000;
        VcpuExit exit = VcpuExit.SingleStep;
        for (int i = 0; i < Limit && exit == VcpuExit.SingleStep && _vcpu.State->Rip != end; i++)
            exit = _vcpu.SingleStep();
        return exit == VcpuExit.SingleStep ? _vcpu.Run() : exit;
    }

    /// <summary>Runs <paramref name="code"/> at the linear address <paramref name="start"/> and leaves the state in <paramref name="output"/>; null, or why it did not get to its end.</summary>
    public string? Run(byte* start, ReadOnlySpan<byte> code, int bits, in MachineImage input, out MachineImage output)
    {
        byte* end = start + code.Length;
        CopyIn(start, code);
        // VMCALL asks the host, which asks for an exit: the only way out that needs no IDT.
        CopyIn(end, [0x0F, 0x01, 0xC1]);
        InvalidatePage(start);
        InvalidatePage(end + 2);
        SetSegments(bits);
        Load(input, (ulong)start);
        VcpuExit exit = StepSingly ? StepTo((ulong)end) : _vcpu.Run();
        Store(out output);
        if (exit == VcpuExit.Kicked && _vcpu.State->Rip == (ulong)end + 3)
            return null;
        string why = Explain(exit, (ulong)start);
        VcpuState.Reset(_vcpu.State, init: false, bootstrap: true);
        EnterLongMode(_root);
        return why;
    }

    /// <summary>Puts a program in place: at <paramref name="start"/>, with the way out behind it.</summary>
    public void LoadProgram(byte* start, ReadOnlySpan<byte> code)
    {
        CopyIn(start, code);
        CopyIn(start + code.Length, [0x0F, 0x01, 0xC1]);
        InvalidatePage(start);
        InvalidatePage(start + code.Length + 2);
    }

    /// <summary>Clears a few bytes of code.</summary>
    public void Clear(byte* start, int length)
    {
        CopyIn(start, new byte[length]);
        InvalidatePage(start);
        InvalidatePage(start + length - 1);
    }

    /// <summary>Runs a program that is in place until it reaches <paramref name="end"/> or faults. Null, or what went wrong otherwise.</summary>
    public string? RunProgram(byte* start, byte* end, int bits, in MachineImage input, out Outcome outcome)
    {
        SetSegments(bits);
        Load(input, (ulong)start);
        VcpuExit exit = StepSingly ? StepTo((ulong)end) : _vcpu.Run();
        outcome = new Outcome { Vector = Outcome.ReachedEnd, Rip = (ulong)end };
        Store(out outcome.Image);
        if (exit == VcpuExit.Kicked && _vcpu.State->Rip == (ulong)end + 3)
            return null;
        string? failure = exit == VcpuExit.Halt ? null : Explain(exit, (ulong)start);
        if (failure == null)
            ReadFault(ref outcome);
        VcpuState.Reset(_vcpu.State, init: false, bootstrap: true);
        EnterLongMode(_root);
        return failure;
    }

    private void ReadFault(ref Outcome outcome)
    {
        VcpuState* s = _vcpu.State;
        outcome.Vector = (int)(s->Rip - 1 - (SystemLinear + HandlerOffset));
        ulong* frame = (ulong*)(_slot.Address + SystemArea + (s->Gpr[(int)Gpr.Rsp] - SystemLinear));
        if (Outcome.HasError(outcome.Vector))
            outcome.Error = *frame++;
        if (outcome.Vector == Vector.PF)
            outcome.Cr2 = s->Cr2;
        outcome.Rip = frame[0];
        outcome.Image.Flags = frame[2];
        outcome.Image.SetGpr((int)Gpr.Rsp, frame[3]);
    }

    public void Dispose()
    {
        _vcpu.Dispose();
        _partition.Dispose();
        _backend.Dispose();
        _slot.Dispose();
    }

    // Handlers are one HLT per vector, so RIP names the vector; the interrupted RIP is on the handler's stack.
    private string Explain(VcpuExit exit, ulong start)
    {
        VcpuState* s = _vcpu.State;
        if (exit != VcpuExit.Halt)
            return $"{exit}: {Vector.Mnemonic(_vcpu.PendingFault.Vector)} could not be delivered";
        int vector = (int)(s->Rip - 1 - (SystemLinear + HandlerOffset));
        ulong* frame = (ulong*)(_slot.Address + SystemArea + (s->Gpr[(int)Gpr.Rsp] - SystemLinear));
        bool hasError = Outcome.HasError(vector);
        ulong rip = frame[hasError ? 1 : 0];
        return $"{Vector.Mnemonic(vector) ?? vector.ToString()}({(hasError ? frame[0] : 0):X}) at +0x{rip - start:X}, CR2 0x{s->Cr2:X}";
    }

    private void InvalidatePage(byte* native) =>
        _partition.InvalidateCode(_slot, (ulong)(Guest(native) - _slot.Address) & ~(ulong)(Layout.Page - 1), Layout.Page);

    private void Load(in MachineImage input, ulong start)
    {
        VcpuState* s = _vcpu.State;
        fixed (MachineImage* i = &input)
        {
            for (int r = 0; r < 16; r++)
                s->Gpr[r] = i->Gpr[r];
            Buffer.MemoryCopy(i->Xsave, s->Xsave, VcpuState.XsaveSize, VcpuState.XsaveSize);
        }

        s->Rip = start;
        s->Rflags = input.Flags;
        _vcpu.CommitState();
    }

    private void Store(out MachineImage output)
    {
        _vcpu.SynchronizeState();
        VcpuState* s = _vcpu.State;
        fixed (MachineImage* o = &output)
        {
            o->Flags = s->Rflags;
            for (int r = 0; r < 16; r++)
                o->Gpr[r] = s->Gpr[r];
            Buffer.MemoryCopy(s->Xsave, o->Xsave, VcpuState.XsaveSize, VcpuState.XsaveSize);
        }
    }

    private ulong NewTable()
    {
        ulong table = _nextTable;
        _nextTable += Layout.Page;
        return table;
    }

    private void MapPage(ulong linear, ulong gpa, ulong rights)
    {
        const ulong Bits = PageBits.P | PageBits.A | PageBits.D;
        ulong table = _root;
        for (int shift = 39; shift > 12; shift -= 9)
        {
            ref ulong entry = ref *(ulong*)(_slot.Address + table + (linear >> shift & 0x1FF) * 8);
            if ((entry & PageBits.P) == 0)
                entry = NewTable() | Bits | PageBits.US | PageBits.RW;
            table = entry & PageBits.AddressMask;
        }

        *(ulong*)(_slot.Address + table + (linear >> 12 & 0x1FF) * 8) = gpa | Bits | rights;
    }

    // Selectors are those of a 64-bit Linux process, so that instructions that read them agree; in compatibility mode DS and ES are loaded.
    private void SetSegments(int bits)
    {
        VcpuState* s = _vcpu.State;
        SegmentRegister data = new(0x2B, 0, uint.MaxValue, 0xF3 | SegmentRegister.DB | SegmentRegister.G), none = new(0, 0, 0, SegmentRegister.Unusable);
        s->CS = bits == 64 ? new SegmentRegister(0x33, 0, uint.MaxValue, 0xFB | SegmentRegister.L | SegmentRegister.G)
            : new SegmentRegister(0x23, 0, uint.MaxValue, 0xFB | SegmentRegister.DB | SegmentRegister.G);
        s->SS = data;
        s->DS = s->ES = bits == 64 ? none : data;
        s->FS = s->GS = none;
    }

    private void EnterLongMode(ulong root)
    {
        VcpuState* s = _vcpu.State;
        s->Cr0 = Cr0.PE | Cr0.MP | Cr0.ET | Cr0.NE | Cr0.WP | Cr0.PG;
        s->Cr3 = root;
        s->Cr4 = Cr4.PAE | Cr4.OSFXSR | Cr4.OSXMMEXCPT | Cr4.OSXSAVE;
        s->Xcr0 = HostFeatures.Current.Avx512 ? MachineImage.Wide : MachineImage.Narrow;
        s->Efer = Efer.LME | Efer.LMA | Efer.SCE | Efer.NXE;
        SetSegments(64);
        s->Cpl = 3;
        s->Gdtr = new DescriptorTable(SystemLinear, 0xF);
        s->Idtr = new DescriptorTable(SystemLinear + IdtOffset, 0xFFF);
        s->TR = new SegmentRegister(0x40, SystemLinear + TssOffset, 0x67, SegmentRegister.P | SystemType.TssBusy);
        s->MpState = MpState.Runnable;
        _vcpu.CommitState();
    }

    private sealed class HeapRegion(ulong size) : IHostMemoryRegion
    {
        // SAFETY: freed in Dispose only.
        public byte* Address { get; } = Allocate(size);

        public ulong Size => size;

        public int FileDescriptor => -1;

        public ulong ResidentBytes => size;

        public void Discard(ulong offset, ulong length) => NativeMemory.Clear(Address + offset, (nuint)length);

        public void Dispose() => NativeMemory.AlignedFree(Address);

        private static byte* Allocate(ulong size)
        {
            var p = (byte*)NativeMemory.AlignedAlloc((nuint)size, 4096);
            NativeMemory.Clear(p, (nuint)size);
            return p;
        }
    }

    private sealed class OracleHost : IVcpuHost
    {
        public VcpuState* State;

        public void ReadPort(ushort port, int size, byte* data, int count) => new Span<byte>(data, size * count).Fill(0xFF);

        public void WritePort(ushort port, int size, byte* data, int count)
        {
        }

        public ulong ReadMmio(ulong gpa, int size) => ulong.MaxValue;

        public void WriteMmio(ulong gpa, int size, ulong value)
        {
        }

        public bool ReadMsr(uint msr, out ulong value)
        {
            value = 0;
            return false;
        }

        public bool WriteMsr(uint msr, ulong value) => false;

        public ulong ReadCr8() => 0;

        public void WriteCr8(ulong value)
        {
        }

        public ulong ReadMachineTsc() => 0;

        public void FillRandom(Span<byte> destination) => Random.Shared.NextBytes(destination);

        public bool Hypercall(VcpuState* state)
        {
            Interlocked.Or(ref State->Requests, (uint)VcpuRequests.Exit);
            return true;
        }

        public void ReportFailure(string reason) => throw new InvalidOperationException(reason);
    }
}
