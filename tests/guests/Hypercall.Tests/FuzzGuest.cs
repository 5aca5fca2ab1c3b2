using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Hypercall.Tests;

/// <summary>
/// A Xen PV kernel that does nothing but what its records say: calls with given arguments, and reads and writes of its own. A fault, an event or a return to a wrong place ends that
/// record alone: the next one goes on, as long as there is a trap table.
/// </summary>
internal sealed class FuzzGuest
{
    private const int ProgramHeaders = 2, Notes = 0x200, FileHeader = 0x1000;

    private readonly ulong[] _events = new ulong[FuzzMap.Vcpus], _traps = new ulong[FuzzMap.Vcpus];

    public FuzzGuest() => Image = Build();

    /// <summary>The kernel's file.</summary>
    public byte[] Image { get; }

    public ulong EventHandler(int vcpu) => _events[vcpu];

    public ulong TrapHandler(int vcpu) => _traps[vcpu];

    private byte[] Build()
    {
        byte[] file = new byte[FileHeader + (int)(FuzzMap.End - FuzzMap.Text)];
        WriteHeaders(file);
        Span<byte> image = file.AsSpan(FileHeader);
        for (int v = 0; v < FuzzMap.Vcpus; v++)
        {
            Assemble(v).CopyTo(image[(int)(FuzzMap.TextOf(v) - FuzzMap.Text)..]);
            WriteTrapTable(image[(int)(FuzzMap.TrapTableOf(v) - FuzzMap.Text)..], _traps[v]);
        }

        // A program: system calls for ever.
        byte[] user = [0x0F, 0x05, 0xEB, 0xFC];
        user.CopyTo(image[(int)(FuzzMap.UserText - FuzzMap.Text)..]);
        return file;
    }

    /// <summary>Where vCPU <paramref name="vcpu"/> starts: a fuzzed bring-up of the second begins there.</summary>
    public static ulong Entry(int vcpu) => FuzzMap.Linear(FuzzMap.TextOf(vcpu));

    private byte[] Assemble(int v)
    {
        var c = new Assembler(64);
        Label next = c.CreateLabel(), wait = c.CreateLabel(), finish = c.CreateLabel(), poke = c.CreateLabel(), store = c.CreateLabel(), trap = c.CreateLabel(), evt = c.CreateLabel(), resume = c.CreateLabel();
        ulong control = FuzzMap.Linear(FuzzMap.ControlOf(v)), stack = FuzzMap.Linear(FuzzMap.StackTopOf(v));
        Call(c, 0, FuzzMap.Linear(FuzzMap.TrapTableOf(v)), 0);
        c.mov(rbx, control);
        c.inc(__qword_ptr[rbx + FuzzMap.Enters]);
        c.Label(ref resume);
        c.cld();
        c.mov(rsp, stack);
        c.Label(ref next);
        c.mov(rbx, control);
        c.Label(ref wait);
        c.pause();
        c.mov(rax, __qword_ptr[rbx + FuzzMap.Go]);
        c.cmp(rax, __qword_ptr[rbx + FuzzMap.Done]);
        c.je(wait);
        c.mov(r12, __qword_ptr[rbx + FuzzMap.Index]);
        c.cmp(r12, FuzzMap.RecordsPerBatch);
        c.jae(finish);
        // Counted first: whatever becomes of it, the next one is another.
        c.inc(__qword_ptr[rbx + FuzzMap.Index]);
        c.shl(r12, 6);
        c.mov(rax, FuzzMap.Linear(FuzzMap.RecordsOf(v)));
        c.add(r12, rax);
        c.mov(rax, __qword_ptr[r12]);
        c.mov(rdi, __qword_ptr[r12 + 8]);
        c.mov(rsi, __qword_ptr[r12 + 16]);
        c.cmp(rax, (int)FuzzMap.Poke);
        c.jae(poke);
        c.mov(rdx, __qword_ptr[r12 + 24]);
        c.mov(r10, __qword_ptr[r12 + 32]);
        c.mov(r8, __qword_ptr[r12 + 40]);
        c.mov(rsp, __qword_ptr[r12 + 56]);
        c.syscall();
        c.Label(ref store);
        c.mov(rsp, stack);
        c.mov(__qword_ptr[r12 + 48], rax);
        c.jmp(next);
        Pokes(c, poke, store);
        c.Label(ref finish);
        c.mov(__qword_ptr[rbx + FuzzMap.Index], 0);
        c.mov(__qword_ptr[rbx + FuzzMap.Done], rax);
        c.jmp(next);
        c.Label(ref trap);
        c.jmp(resume);
        c.Label(ref evt);
        c.jmp(resume);

        using var stream = new MemoryStream();
        AssemblerResult result = c.Assemble(new StreamCodeWriter(stream), Entry(v), BlockEncoderOptions.ReturnNewInstructionOffsets);
        (_events[v], _traps[v]) = (result.GetLabelRIP(evt), result.GetLabelRIP(trap));
        return stream.ToArray();
    }

    private static void Pokes(Assembler c, Label poke, Label store)
    {
        c.Label(ref poke);
        (ulong Number, Action Do)[] kinds =
        [
            (FuzzMap.Poke, () => c.mov(__qword_ptr[rdi], rsi)),
            (FuzzMap.PokeExchange, () => c.xchg(__qword_ptr[rdi], rsi)),
            (FuzzMap.PokeAnd, () => c.@lock.and(__byte_ptr[rdi], sil)),
            (FuzzMap.Peek, () => c.mov(rax, __qword_ptr[rdi])),
            (FuzzMap.PokeCompareExchange, () => c.@lock.cmpxchg(__qword_ptr[rdi], rsi)),
            (FuzzMap.Poke32, () => c.mov(__dword_ptr[rdi], esi)),
            (FuzzMap.PokeBitReset, () => c.@lock.btr(__qword_ptr[rdi], 5)),
            (FuzzMap.Run, () => c.call(rdi)),
        ];
        foreach ((ulong number, Action act) in kinds)
        {
            Label other = c.CreateLabel();
            c.cmp(rax, (int)number);
            c.jne(other);
            act();
            c.jmp(store);
            c.Label(ref other);
            c.nop();
        }

        c.jmp(store);
    }

    private static void Call(Assembler c, int number, ulong first, ulong second)
    {
        c.mov(eax, number);
        c.mov(rdi, first);
        c.mov(rsi, second);
        c.syscall();
    }

    private static void WriteTrapTable(Span<byte> table, ulong handler)
    {
        for (int vector = 0; vector < 32; vector++)
        {
            Span<byte> entry = table[(vector * 16)..];
            entry[0] = (byte)vector;
            // Events masked, as Linux has it.
            entry[1] = 4;
            BinaryPrimitives.WriteUInt16LittleEndian(entry[2..], 0xE033);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], handler);
        }
    }

    private static void WriteHeaders(Span<byte> file)
    {
        "\u007fELF"u8.CopyTo(file);
        (file[4], file[5], file[6]) = (2, 1, 1);
        BinaryPrimitives.WriteUInt16LittleEndian(file[16..], 2);
        BinaryPrimitives.WriteUInt16LittleEndian(file[18..], 62);
        BinaryPrimitives.WriteUInt32LittleEndian(file[20..], 1);
        BinaryPrimitives.WriteUInt64LittleEndian(file[24..], Entry(0));
        BinaryPrimitives.WriteUInt64LittleEndian(file[32..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(file[52..], 64);
        BinaryPrimitives.WriteUInt16LittleEndian(file[54..], 56);
        BinaryPrimitives.WriteUInt16LittleEndian(file[56..], ProgramHeaders);
        ulong size = FuzzMap.End - FuzzMap.Text;
        Segment(file[64..], 1, 7, FileHeader, FuzzMap.Linear(FuzzMap.Text), FuzzMap.Text, size, size);
        int at = Notes;
        at += Note(file[at..], 1, Number(Entry(0)));
        at += Note(file[at..], 3, Number(FuzzMap.Base));
        at += Note(file[at..], 4, Number(0));
        at += Note(file[at..], 5, "xen-3.0\0"u8);
        at += Note(file[at..], 16, Number(1));
        Segment(file[120..], 4, 4, Notes, 0, 0, (ulong)(at - Notes), (ulong)(at - Notes));
    }

    private static byte[] Number(ulong value) => BitConverter.GetBytes(value);

    private static int Note(Span<byte> at, uint type, ReadOnlySpan<byte> value)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(at, 4);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], (uint)value.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(at[8..], type);
        "Xen\0"u8.CopyTo(at[12..]);
        value.CopyTo(at[16..]);
        return 16 + ((value.Length + 3) & ~3);
    }

    private static void Segment(Span<byte> at, uint type, uint flags, ulong offset, ulong linear, ulong physical, ulong fileSize, ulong memorySize)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(at, type);
        BinaryPrimitives.WriteUInt32LittleEndian(at[4..], flags);
        ReadOnlySpan<ulong> fields = [offset, linear, physical, fileSize, memorySize, 4096];
        for (int i = 0; i < fields.Length; i++)
            BinaryPrimitives.WriteUInt64LittleEndian(at[(8 + (i * 8))..], fields[i]);
    }
}
