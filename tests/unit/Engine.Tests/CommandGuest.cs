using System.Buffers.Binary;
using System.Reflection;
using Iced.Intel;
using VirtPS.Engine.Catalog;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Engine.Tests;

/// <summary>
/// A real-mode guest under Full that carries out a list of commands (MSR accesses, hypercalls, waits) and writes down what came of each, faults included. A second processor, once started,
/// halts with interrupts off, counts that it goes on, and then counts interrupts.
/// </summary>
internal sealed class CommandGuest : IDisposable
{
    public const uint RamSize = 2 << 20;
    public const uint X2Command = 0x830, SecondCode = 0x8000, IpiVector = 0x40, EoiVector = 0x41;

    /// <summary>Words that the guest counts in.</summary>
    public const uint SecondHalts = 0x610, Kicked = 0x614, Interrupted = 0x618, EndedInMemory = 0x61C, EndedByWrite = 0x620, EoiWord = 0x3100;

    private const uint Fault = 0x600, Round = 0x604, Wanted = 0x608, Table = 0x1000;
    private const int EntrySize = 48, Results = 28, TimerVector = 0x42;
    private const uint OpWrite = 1, OpRead = 2, OpVmcall = 3, OpVmmcall = 4, OpWait = 5, OpClock = 6;

    /// <summary>One for all guests: loading the plugins takes longer than most of them run.</summary>
    private static readonly Lazy<PluginCatalog> s_catalog = new(() =>
    {
        string plugins = Path.Combine(typeof(CommandGuest).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "Repository").Value!, "plugins");
        IEnumerable<string> manifests = Directory.EnumerateFiles(plugins, PluginManifest.FileName, SearchOption.AllDirectories)
            .Where(f => f.Replace('\\', '/').EndsWith("/bin/Release/net10.0/plugin.json", StringComparison.Ordinal));
        return new PluginCatalog(manifests.Select(f => new PluginRoot(Path.GetDirectoryName(f)!, PluginSource.Module)), new PluginRegistry("unused"));
    });

    private readonly string _file = Path.GetTempFileName();
    private uint _round;

    public CommandGuest(int vcpus = 1, string enlightenment = "Kvm", bool start = true, ulong tscFrequency = 1_000_000_000)
    {
        File.WriteAllBytes(_file, Assemble(0x7C00, First));
        VmConfiguration configuration = Make.Configuration(vcpus, RamSize) with
        {
            Strategy = "Full",
            StrategyOptions = new Dictionary<string, string> { ["enlightenment"] = enlightenment },
            Boot = new BootConfiguration { Kind = BootKind.Flat, Kernel = _file, EntryMode = FlatEntryMode.Real16 },
        };
        Machine = new MachineBuilder(configuration, s_catalog.Value) { TscFrequency = tscFrequency }.Build();
        if (!start)
            return;
        Machine.PowerOn(startPaused: true);
        Load(SecondCode, Second);
        (int Vector, Action<Assembler> Code)[] handlers =
        [
            (13, a => SkipFault(a, 13, length: 2)), (6, a => SkipFault(a, 6, length: 3)), ((int)EoiVector, EndInMemory), (TimerVector, a => End(a)),
            ((int)IpiVector, a =>
            {
                a.inc(__dword_ptr[(ushort)Interrupted]);
                End(a);
            }),
        ];
        for (int i = 0; i < handlers.Length; i++)
        {
            uint address = (uint)(0x2000 + i * 0x100);
            Load(address, handlers[i].Code);
            Assert.True(Machine.Memory.TryWrite((ulong)handlers[i].Vector * 4, BitConverter.GetBytes(address)));
        }

        Machine.Resume();
    }

    public Machine Machine { get; }

    public static Command Write(uint msr, ulong value) => new(OpWrite, (uint)value, 0, msr, (uint)(value >> 32), 0);

    public static Command Read(uint msr) => new(OpRead, 0, 0, msr, 0, 0);

    public static Command Call(uint number, uint first, uint second, uint third, uint fourth, bool amd = false) => new(amd ? OpVmmcall : OpVmcall, number, first, second, third, fourth);

    /// <summary>Until the word at an address is not 0.</summary>
    public static Command WaitFor(uint address) => new(OpWait, 0, address, 0, 0, 0);

    public static Command ReadMemory(uint address) => WaitFor(address) with { Op = OpClock + 1 };

    /// <summary>The guest's TSC minus the record's timestamp, which at 1 GHz are the nanoseconds that the record gives.</summary>
    public static Command ReadClock(uint record) => new(OpClock, 0, record, 0, 0, 0);

    /// <summary>Carries them out in order; fails after 10 s.</summary>
    public Answer[] Run(params Command[] commands)
    {
        byte[] table = new byte[(commands.Length + 1) * EntrySize];
        for (int i = 0; i < commands.Length; i++)
        {
            Span<byte> entry = table.AsSpan(i * EntrySize);
            uint[] words = [commands[i].Op, commands[i].Eax, commands[i].Ebx, commands[i].Ecx, commands[i].Edx, commands[i].Esi];
            for (int w = 0; w < words.Length; w++)
                BinaryPrimitives.WriteUInt32LittleEndian(entry[(4 * w)..], words[w]);
        }

        Assert.True(Machine.Memory.TryWrite(Table, table));
        Assert.True(Machine.Memory.TryWrite(Wanted, BitConverter.GetBytes(++_round)));
        Assert.True(Make.Within(10, () => Word(Round) == _round), $"round {Word(Round)} of {_round}: {Machine.State} {Machine.StatusReason} at {Machine.CaptureRegisters(0).Rip:X}");
        byte[] done = Memory(Table, table.Length);
        return [.. Enumerable.Range(0, commands.Length).Select(i =>
        {
            ReadOnlySpan<byte> result = done.AsSpan(i * EntrySize + Results);
            return new Answer(BinaryPrimitives.ReadUInt64LittleEndian(result), BinaryPrimitives.ReadInt32LittleEndian(result[8..]));
        })];
    }

    public uint Word(uint address) => BinaryPrimitives.ReadUInt32LittleEndian(Memory(address, 4));

    public byte[] Memory(uint address, int length)
    {
        byte[] bytes = new byte[length];
        Assert.True(Machine.TryReadPhysical(address, bytes));
        return bytes;
    }

    public void Dispose()
    {
        Machine.Dispose();
        File.Delete(_file);
    }

    /// <param name="Value">EDX:EAX.</param>
    /// <param name="Fault">Vector; 0 for none.</param>
    public readonly record struct Answer(ulong Value, int Fault);

    public readonly record struct Command(uint Op, uint Eax, uint Ebx, uint Ecx, uint Edx, uint Esi);

    private static byte[] Assemble(uint address, Action<Assembler> code)
    {
        var assembler = new Assembler(16);
        code(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        return stream.ToArray();
    }

    private void Load(uint address, Action<Assembler> code) => Assert.True(Machine.Memory.TryWrite(address, Assemble(address, code)));

    private static void First(Assembler a)
    {
        Begin(a, stack: 0x7000);
        a.sti();
        Label round = a.CreateLabel(), idle = a.CreateLabel(), next = a.CreateLabel(), done = a.CreateLabel();
        // Between rounds it halts and looks again after each tick.
        a.Label(ref round);
        a.mov(eax, __dword_ptr[(ushort)Wanted]);
        a.cmp(eax, __dword_ptr[(ushort)Round]);
        a.je(idle);
        a.mov(bp, (short)Table);
        a.Label(ref next);
        a.cmp(__dword_ptr[bp], 0);
        a.je(done);
        Carry(a);
        a.add(bp, EntrySize);
        a.jmp(next);
        a.Label(ref done);
        a.mov(eax, __dword_ptr[(ushort)Wanted]);
        a.mov(__dword_ptr[(ushort)Round], eax);
        a.jmp(round);
        a.Label(ref idle);
        // Divided by 1, once, some milliseconds; not before HLT.
        a.cli();
        WriteMsr(a, 0x83E, 0xB);
        WriteMsr(a, 0x832, TimerVector);
        WriteMsr(a, 0x838, 4_000_000);
        a.sti();
        a.hlt();
        a.jmp(round);
    }

    /// <summary>The command at BP.</summary>
    private static void Carry(Assembler a)
    {
        Label store = a.CreateLabel();
        a.mov(__dword_ptr[(ushort)Fault], 0);
        (uint Op, Action Do)[] cases =
        [
            (OpWrite, () => a.wrmsr()), (OpRead, () => a.rdmsr()), (OpVmcall, () => a.vmcall()), (OpVmmcall, () => a.vmmcall()), (OpWait, () => Await(a)), (OpClock, () => Clock(a)),
            (OpClock + 1, () => a.mov(al, __byte_ptr[bx])),
        ];
        foreach ((uint op, Action act) in cases)
        {
            Label other = a.CreateLabel();
            a.cmp(__dword_ptr[bp], op);
            a.jne(other);
            a.mov(eax, __dword_ptr[bp + 4]);
            a.mov(ebx, __dword_ptr[bp + 8]);
            a.mov(ecx, __dword_ptr[bp + 12]);
            a.mov(edx, __dword_ptr[bp + 16]);
            a.mov(esi, __dword_ptr[bp + 20]);
            act();
            a.jmp(store);
            a.Label(ref other);
            a.nop();
        }

        a.Label(ref store);
        a.mov(__dword_ptr[bp + Results], eax);
        // A hypercall gives EAX alone; EDX is its argument still.
        Label wide = a.CreateLabel();
        a.cmp(__dword_ptr[bp], OpVmcall);
        a.jb(wide);
        a.cmp(__dword_ptr[bp], OpVmmcall);
        a.ja(wide);
        a.xor(edx, edx);
        a.Label(ref wide);
        a.mov(__dword_ptr[bp + Results + 4], edx);
        a.mov(eax, __dword_ptr[(ushort)Fault]);
        a.mov(__dword_ptr[bp + Results + 8], eax);
    }

    private static void Await(Assembler a)
    {
        Label again = a.CreateLabel();
        a.Label(ref again);
        a.pause();
        a.cmp(__dword_ptr[bx], 0);
        a.je(again);
    }

    private static void Clock(Assembler a)
    {
        a.rdtsc();
        a.sub(eax, __dword_ptr[bx + 8]);
        a.sbb(edx, __dword_ptr[bx + 12]);
    }

    private static void SkipFault(Assembler a, int vector, int length)
    {
        a.push(bp);
        a.mov(bp, sp);
        a.add(__word_ptr[bp + 2], length);
        a.pop(bp);
        a.mov(__dword_ptr[(ushort)Fault], vector);
        a.iret();
    }

    /// <summary>As a guest with KVM's interface does: test and clear the bit; where it was not set, write EOI.</summary>
    private static void EndInMemory(Assembler a)
    {
        Label written = a.CreateLabel();
        a.@lock.btr(__dword_ptr[(ushort)EoiWord], 0);
        a.jnc(written);
        a.inc(__dword_ptr[(ushort)EndedInMemory]);
        a.iret();
        a.Label(ref written);
        a.inc(__dword_ptr[(ushort)EndedByWrite]);
        End(a);
    }

    /// <summary>EOI by its register, and back.</summary>
    private static void End(Assembler a)
    {
        a.push(eax);
        a.push(ecx);
        a.push(edx);
        WriteMsr(a, 0x80B, 0);
        a.pop(edx);
        a.pop(ecx);
        a.pop(eax);
        a.iret();
    }

    private static void Second(Assembler a)
    {
        Begin(a, stack: 0x6000);
        a.inc(__dword_ptr[(ushort)SecondHalts]);
        a.cli();
        a.hlt();
        a.inc(__dword_ptr[(ushort)Kicked]);
        Label idle = a.CreateLabel();
        a.Label(ref idle);
        a.sti();
        a.hlt();
        a.jmp(idle);
    }

    private static void Begin(Assembler a, int stack)
    {
        a.xor(ax, ax);
        a.mov(ds, ax);
        a.mov(es, ax);
        a.mov(ss, ax);
        a.mov(sp, (short)stack);
        EnableX2Apic(a);
    }

    private static void EnableX2Apic(Assembler a)
    {
        a.mov(ecx, Msr.ApicBase);
        a.rdmsr();
        a.or(eax, (int)(Msr.ApicBaseEnable | Msr.ApicBaseX2Apic));
        a.wrmsr();
        WriteMsr(a, 0x80F, 0x1FF);
    }

    private static void WriteMsr(Assembler a, uint msr, uint value)
    {
        a.mov(ecx, msr);
        a.mov(eax, value);
        a.xor(edx, edx);
        a.wrmsr();
    }
}
