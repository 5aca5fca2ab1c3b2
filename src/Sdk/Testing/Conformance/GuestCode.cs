using System.Buffers.Binary;
using VirtPS.X86;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>
/// A tiny assembler for scripted guests: just the 64-bit forms that the checks use, absolute 32-bit addresses, labels with 32-bit displacements.
/// <see cref="Bytes"/> takes everything else.
/// </summary>
public sealed class GuestCode
{
    private readonly List<byte> _bytes = [];
    private readonly Dictionary<string, int> _labels = [];
    private readonly List<(int At, string Label)> _fixups = [];

    /// <param name="origin">Linear address of the first byte.</param>
    public GuestCode(ulong origin) => Origin = origin;

    public ulong Origin { get; }

    /// <summary>Address of the next byte.</summary>
    public ulong Here => Origin + (ulong)_bytes.Count;

    public GuestCode Bytes(params byte[] bytes)
    {
        _bytes.AddRange(bytes);
        return this;
    }

    public GuestCode Label(string name)
    {
        _labels.Add(name, _bytes.Count);
        return this;
    }

    /// <summary>Address of a label already placed.</summary>
    public ulong AddressOf(string label) => Origin + (ulong)_labels[label];

    /// <summary>MOV r64, imm64.</summary>
    public GuestCode Mov(Gpr register, ulong value)
    {
        Bytes((byte)(0x48 | (int)register >> 3), (byte)(0xB8 | (int)register & 7));
        return Imm64(value);
    }

    /// <summary>MOV r64, [address].</summary>
    public GuestCode Load(Gpr register, uint address) => Absolute(0x8B, register, address);

    /// <summary>MOV [address], r64.</summary>
    public GuestCode Store(uint address, Gpr register) => Absolute(0x89, register, address);

    /// <summary>MOV dword [address], imm32.</summary>
    public GuestCode StoreImm(uint address, uint value) => Bytes(0xC7, 0x04, 0x25).Imm32(address).Imm32(value);

    public GuestCode Push(Gpr register) => Bytes((byte)(0x40 | (int)register >> 3), (byte)(0x50 | (int)register & 7));

    public GuestCode Pop(Gpr register) => Bytes((byte)(0x40 | (int)register >> 3), (byte)(0x58 | (int)register & 7));

    /// <summary>MOV r64, CRn (n below 8).</summary>
    public GuestCode FromCr(Gpr register, int cr) => Bytes(0x0F, 0x20, (byte)(0xC0 | cr << 3 | (int)register & 7));

    /// <summary>MOV CRn, r64 (n below 8).</summary>
    public GuestCode ToCr(int cr, Gpr register) => Bytes(0x0F, 0x22, (byte)(0xC0 | cr << 3 | (int)register & 7));

    public GuestCode Hlt() => Bytes(0xF4);

    public GuestCode Nop() => Bytes(0x90);

    public GuestCode Cli() => Bytes(0xFA);

    public GuestCode Sti() => Bytes(0xFB);

    public GuestCode Int(byte vector) => Bytes(0xCD, vector);

    public GuestCode Ud2() => Bytes(0x0F, 0x0B);

    public GuestCode Iretq() => Bytes(0x48, 0xCF);

    public GuestCode Syscall() => Bytes(0x0F, 0x05);

    public GuestCode Sysretq() => Bytes(0x48, 0x0F, 0x07);

    public GuestCode Rdmsr() => Bytes(0x0F, 0x32);

    public GuestCode Wrmsr() => Bytes(0x0F, 0x30);

    /// <summary>WRMSR of a constant; destroys RAX, RCX, RDX.</summary>
    public GuestCode Wrmsr(uint msr, ulong value) => Mov(Gpr.Rcx, msr).Mov(Gpr.Rax, (uint)value).Mov(Gpr.Rdx, value >> 32).Wrmsr();

    public GuestCode Jmp(string label) => Bytes(0xE9).Displacement(label);

    /// <summary>Jcc; <paramref name="condition"/> as in the opcode's low nibble (5 = NZ).</summary>
    public GuestCode Jcc(int condition, string label) => Bytes(0x0F, (byte)(0x80 | condition)).Displacement(label);

    /// <summary>JMP to itself.</summary>
    public GuestCode Spin() => Bytes(0xEB, 0xFE);

    public GuestCode Imm32(uint value)
    {
        Span<byte> b = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(b, value);
        _bytes.AddRange(b);
        return this;
    }

    public GuestCode Imm64(ulong value) => Imm32((uint)value).Imm32((uint)(value >> 32));

    /// <summary>The finished bytes with all displacements filled in.</summary>
    public byte[] ToArray()
    {
        byte[] code = [.. _bytes];
        foreach ((int at, string label) in _fixups)
            BinaryPrimitives.WriteInt32LittleEndian(code.AsSpan(at), _labels[label] - (at + 4));
        return code;
    }

    private GuestCode Displacement(string label)
    {
        _fixups.Add((_bytes.Count, label));
        return Imm32(0);
    }

    private GuestCode Absolute(byte opcode, Gpr register, uint address) =>
        Bytes((byte)(0x48 | ((int)register >> 3) << 2), opcode, (byte)(0x04 | ((int)register & 7) << 3), 0x25).Imm32(address);
}
