using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Sdk.Testing.Conformance;

// Port and memory-mapped I/O: each access reaches the machine exactly once, with the right size and value.
public static unsafe partial class StrategyConformance
{
    private static IEnumerable<ConformanceCheck> InputOutputChecks() =>
    [
        Check(ConformanceArea.Ports, "OUT of 1, 2 and 4 bytes", PortOut),
        Check(ConformanceArea.Ports, "IN of 1, 2 and 4 bytes keeps or clears the upper part as the size says", PortIn),
        Check(ConformanceArea.Ports, "REP OUTSB", RepOuts),
        Check(ConformanceArea.Ports, "REP INSW", RepIns),
        Check(ConformanceArea.Mmio, "reads and writes of 1, 2, 4 and 8 bytes", MmioSizes),
        Check(ConformanceArea.Mmio, "ADD on MMIO reads once and writes once", MmioReadModifyWrite),
        Check(ConformanceArea.Mmio, "XCHG with MMIO reads once and writes once", MmioExchange),
        Check(ConformanceArea.Mmio, "PUSH to an MMIO stack writes once", MmioPush),
        Check(ConformanceArea.Mmio, "REP MOVSD from MMIO to RAM", MmioMovs),
        Check(ConformanceArea.Mmio, "a write to read-only memory goes to the machine", RomWrite),
        Check(ConformanceArea.Mmio, "a store across the end of RAM writes both parts once", AcrossEndOfRam),
    ];

    private static void Accesses(ConformanceMachine m, params HostAccess[] expected)
    {
        Equal(string.Join("; ", expected), string.Join("; ", m.Host.Accesses), "accesses");
    }

    private static void PortOut(ConformanceMachine m)
    {
        // mov rax; out 0x80, al; out 0x80, ax; mov dx, 0x1234; out dx, eax
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 0x1122_3344).Mov(Gpr.Rdx, 0x1234).Bytes(0xE6, 0x80, 0x66, 0xE7, 0x80, 0xEF).Hlt());
        m.RunToHalt();
        Accesses(m, new("out", 0x80, 1, 0x44), new("out", 0x80, 2, 0x3344), new("out", 0x1234, 4, 0x1122_3344));
    }

    private static void PortIn(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 0x1122_3344_5566_7788).Bytes(0xE4, 0x80).Store(DataAddress, Gpr.Rax)
            .Bytes(0x66, 0xE5, 0x80).Store(DataAddress + 8, Gpr.Rax).Bytes(0xE5, 0x80).Hlt());
        m.Host.PortInput[0x80] = new Queue<uint>([0xAA, 0xBBCC, 0xDDEE_FF00]);
        m.RunToHalt();
        Equal(0x1122_3344_5566_77AAul, m.Read64(DataAddress), "RAX after IN AL");
        Equal(0x1122_3344_5566_BBCCul, m.Read64(DataAddress + 8), "RAX after IN AX");
        Equal(0xDDEE_FF00ul, m[Gpr.Rax], "RAX after IN EAX");
    }

    private static void RepOuts(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rsi, DataAddress).Mov(Gpr.Rcx, 5).Mov(Gpr.Rdx, 0x3F8).Bytes(0xF3, 0x6E).Hlt());
        m.Write(DataAddress, "Hello"u8);
        m.RunToHalt();
        Accesses(m, [.. "Hello".Select(ch => new HostAccess("out", 0x3F8, 1, ch))]);
        Equal((ulong)DataAddress + 5, m[Gpr.Rsi], "RSI");
        Equal(0ul, m[Gpr.Rcx], "RCX");
    }

    private static void RepIns(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rdi, DataAddress).Mov(Gpr.Rcx, 3).Mov(Gpr.Rdx, 0x1F0).Bytes(0x66, 0xF3, 0x6D).Hlt());
        m.Host.PortInput[0x1F0] = new Queue<uint>([0x1111, 0x2222, 0x3333]);
        m.RunToHalt();
        Equal(0x3333_2222_1111ul, m.Read64(DataAddress), "memory");
        Equal((ulong)DataAddress + 6, m[Gpr.Rdi], "RDI");
        Equal(3, m.Host.Accesses.Count, "number of reads");
    }

    private static void MmioSizes(ConformanceMachine m)
    {
        // mov [rbx], al/ax/eax/rax; then mov cl/cx/ecx/rcx, [rbx]
        m.EnterLongMode(c => c.Mov(Gpr.Rbx, MmioAddress).Mov(Gpr.Rax, 0x1122_3344_5566_7788)
            .Bytes(0x88, 0x03, 0x66, 0x89, 0x43, 0x10, 0x89, 0x43, 0x20, 0x48, 0x89, 0x43, 0x30)
            .Bytes(0x0F, 0xB6, 0x0B, 0x0F, 0xB7, 0x53, 0x10, 0x8B, 0x73, 0x20, 0x48, 0x8B, 0x7B, 0x30).Hlt());
        m.RunToHalt();
        Accesses(m,
            new("write", MmioAddress, 1, 0x88), new("write", MmioAddress + 0x10, 2, 0x7788),
            new("write", MmioAddress + 0x20, 4, 0x5566_7788), new("write", MmioAddress + 0x30, 8, 0x1122_3344_5566_7788),
            new("read", MmioAddress, 1, 0x88), new("read", MmioAddress + 0x10, 2, 0x7788),
            new("read", MmioAddress + 0x20, 4, 0x5566_7788), new("read", MmioAddress + 0x30, 8, 0x1122_3344_5566_7788));
        Equal(0x1122_3344_5566_7788ul, m[Gpr.Rdi], "RDI");
    }

    private static void Prepare(ConformanceMachine m, uint value)
    {
        for (int i = 0; i < 4; i++)
            m.Host.Mmio[MmioAddress + (ulong)i] = (byte)(value >> (8 * i));
    }

    private static void MmioReadModifyWrite(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rbx, MmioAddress).Bytes(0x83, 0x03, 0x05).Hlt());
        Prepare(m, 0x100);
        m.RunToHalt();
        Accesses(m, new("read", MmioAddress, 4, 0x100), new("write", MmioAddress, 4, 0x105));
    }

    private static void MmioExchange(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rbx, MmioAddress).Mov(Gpr.Rax, 7).Bytes(0x87, 0x03).Hlt());
        Prepare(m, 0x100);
        m.RunToHalt();
        Accesses(m, new("read", MmioAddress, 4, 0x100), new("write", MmioAddress, 4, 7));
        Equal(0x100ul, m[Gpr.Rax], "RAX");
    }

    private static void MmioPush(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rsp, MmioAddress + 0x100).Mov(Gpr.Rax, 0x55).Push(Gpr.Rax).Hlt());
        m.RunToHalt();
        Accesses(m, new HostAccess("write", MmioAddress + 0xF8, 8, 0x55));
        Equal((ulong)MmioAddress + 0xF8, m[Gpr.Rsp], "RSP");
    }

    private static void MmioMovs(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rsi, MmioAddress).Mov(Gpr.Rdi, DataAddress).Mov(Gpr.Rcx, 3).Bytes(0xF3, 0xA5).Hlt());
        for (uint i = 0; i < 12; i++)
            m.Host.Mmio[MmioAddress + i] = (byte)(i + 1);
        m.RunToHalt();
        Accesses(m, new("read", MmioAddress, 4, 0x04030201), new("read", MmioAddress + 4, 4, 0x08070605), new("read", MmioAddress + 8, 4, 0x0C0B0A09));
        Equal(0x0807_0605_0403_0201ul, m.Read64(DataAddress), "memory");
    }

    private static void RomWrite(ConformanceMachine m)
    {
        const uint rom = 0x80_0000;
        m.Memory.Add(new Memory.MemorySlot("rom", rom, new Memory.HeapMemoryRegion(0x1000), readOnly: true));
        m.EnterLongMode(c => c.StoreImm(rom, 5).Load(Gpr.Rbx, rom).Hlt());
        m.RunToHalt();
        Accesses(m, new HostAccess("write", rom, 4, 5));
        Equal(0ul, m[Gpr.Rbx], "what the ROM reads as");
    }

    private static void AcrossEndOfRam(ConformanceMachine m)
    {
        m.EnterLongMode(c => c.Mov(Gpr.Rax, 0x1122_3344_5566_7788).Store((uint)RamSize - 4, Gpr.Rax).Hlt());
        m.RunToHalt();
        Accesses(m, new HostAccess("write", RamSize, 4, 0x1122_3344));
        Equal(0x5566_7788ul << 32, m.Read64(RamSize - 8), "the part in RAM");
    }
}
