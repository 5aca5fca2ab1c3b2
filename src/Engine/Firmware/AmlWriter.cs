using System.Buffers.Binary;
using System.Text;

namespace VirtPS.Engine.Firmware;

/// <summary>
/// Writes ACPI machine language (ACPI 6.5 §20): the few constructs that a fixed platform's DSDT needs. Blocks nest by callback, because a block's length
/// stands before its content.
/// </summary>
internal sealed class AmlWriter
{
    private const byte NameOp = 0x08, ByteConst = 0x0A, WordConst = 0x0B, DwordConst = 0x0C, QwordConst = 0x0E, StringOp = 0x0D, ScopeOp = 0x10,
        BufferOp = 0x11, PackageOp = 0x12, ExtOp = 0x5B, DeviceOp = 0x82;

    private readonly List<byte> _bytes = [];

    public byte[] ToArray() => [.. _bytes];

    /// <summary>An integer in its shortest encoding (§20.2.3).</summary>
    public AmlWriter Integer(ulong value)
    {
        Span<byte> raw = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(raw, value);
        if (value <= 1)
            _bytes.Add((byte)value);
        else if (value <= byte.MaxValue)
            Constant(ByteConst, raw[..1]);
        else if (value <= ushort.MaxValue)
            Constant(WordConst, raw[..2]);
        else if (value <= uint.MaxValue)
            Constant(DwordConst, raw[..4]);
        else
            Constant(QwordConst, raw);
        return this;
    }

    public AmlWriter String(string text)
    {
        _bytes.Add(StringOp);
        _bytes.AddRange(Encoding.ASCII.GetBytes(text));
        _bytes.Add(0);
        return this;
    }

    /// <summary>A compressed EISA id, such as PNP0501 (§19.3.4).</summary>
    public AmlWriter EisaId(string id)
    {
        int vendor = ((id[0] - 0x40) << 10) | ((id[1] - 0x40) << 5) | (id[2] - 0x40);
        uint product = Convert.ToUInt32(id[3..], 16);
        return Integer(BinaryPrimitives.ReverseEndianness(((uint)vendor << 16) | product));
    }

    /// <summary>Name (<paramref name="name"/>, …): the value is whatever <paramref name="value"/> writes.</summary>
    public AmlWriter Name(string name, Action<AmlWriter> value)
    {
        _bytes.Add(NameOp);
        NameString(name);
        value(this);
        return this;
    }

    public AmlWriter Scope(string name, Action<AmlWriter> body)
    {
        _bytes.Add(ScopeOp);
        return Block(w => body(w.NameString(name)));
    }

    public AmlWriter Device(string name, Action<AmlWriter> body)
    {
        _bytes.Add(ExtOp);
        _bytes.Add(DeviceOp);
        return Block(w => body(w.NameString(name)));
    }

    /// <summary>A package; each element is one action.</summary>
    public AmlWriter Package(params IReadOnlyCollection<Action<AmlWriter>> elements)
    {
        _bytes.Add(PackageOp);
        return Block(w =>
        {
            w._bytes.Add(checked((byte)elements.Count));
            foreach (Action<AmlWriter> element in elements)
                element(w);
        });
    }

    /// <summary>A buffer with these bytes: how resource templates are stored.</summary>
    public AmlWriter Buffer(byte[] content)
    {
        _bytes.Add(BufferOp);
        return Block(w => w.Integer((ulong)content.Length)._bytes.AddRange(content));
    }

    private void Constant(byte prefix, ReadOnlySpan<byte> raw)
    {
        _bytes.Add(prefix);
        foreach (byte b in raw)
            _bytes.Add(b);
    }

    /// <summary>Up to one dot-free path of four-character segments, a leading backslash allowed (§20.2.2).</summary>
    private AmlWriter NameString(string name)
    {
        ReadOnlySpan<char> rest = name;
        if (rest[0] == '\\')
        {
            _bytes.Add((byte)'\\');
            rest = rest[1..];
        }

        _bytes.AddRange(Encoding.ASCII.GetBytes(rest.ToString().PadRight(4, '_')));
        return this;
    }

    /// <summary>PkgLength and content; the length counts its own bytes (§20.2.4).</summary>
    private AmlWriter Block(Action<AmlWriter> content)
    {
        var inner = new AmlWriter();
        content(inner);
        int length = inner._bytes.Count;
        if (length + 1 < 0x40)
        {
            _bytes.Add((byte)(length + 1));
        }
        else
        {
            int follow = length + 2 < 1 << 12 ? 1 : length + 3 < 1 << 20 ? 2 : 3;
            int total = length + 1 + follow;
            _bytes.Add((byte)((follow << 6) | (total & 0xF)));
            for (int i = 0; i < follow; i++)
                _bytes.Add((byte)(total >> (4 + (8 * i))));
        }

        _bytes.AddRange(inner._bytes);
        return this;
    }
}
