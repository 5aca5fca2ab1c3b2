using System.Text;
using Iced.Intel;

namespace VirtPS.Guests.Ringlab;

/// <summary>
/// A piece of code at a fixed address, assembled twice: the second time every label's address is known as a number, so that code can use it as an
/// immediate, and descriptor tables can be written from it.
/// </summary>
internal sealed class RinglabCode
{
    private readonly uint _origin;
    private readonly uint _limit;
    private readonly Dictionary<string, Label> _labels = [];
    private readonly Dictionary<string, uint> _addresses;

    private RinglabCode(int bitness, uint origin, uint limit, Dictionary<string, uint> addresses, RinglabStrings strings)
    {
        (_origin, _limit, _addresses, Strings, A) = (origin, limit, addresses, strings, new Assembler(bitness));
    }

    /// <summary>The assembler of this pass.</summary>
    public Assembler A { get; }

    public RinglabStrings Strings { get; }

    /// <summary>Assembles what <paramref name="emit"/> writes, at <paramref name="origin"/>; it must end before <paramref name="limit"/>.</summary>
    public static (byte[] Bytes, IReadOnlyDictionary<string, uint> Labels) Assemble(int bitness, uint origin, uint limit, RinglabStrings strings, Action<RinglabCode> emit)
    {
        Dictionary<string, uint> addresses = [];
        byte[] bytes = [];
        for (int pass = 0; pass < 2; pass++)
        {
            var code = new RinglabCode(bitness, origin, limit, addresses, strings);
            emit(code);
            (bytes, addresses) = code.Finish();
        }

        return (bytes, addresses);
    }

    /// <summary>Puts a label here.</summary>
    public void Mark(string name)
    {
        Label label = this[name];
        A.Label(ref label);
        _labels[name] = label;
    }

    /// <summary>A label to jump to or call, marked before or later.</summary>
    public Label this[string name]
    {
        get
        {
            if (!_labels.TryGetValue(name, out Label label))
                _labels[name] = label = A.CreateLabel(name);
            return label;
        }
    }

    /// <summary>The label's address; in the first pass a stand-in of the same encoded size.</summary>
    public uint AddressOf(string name) => _addresses.GetValueOrDefault(name, _origin);

    /// <summary>Address of a NUL-terminated string.</summary>
    public uint Text(string text) => Strings.Add(text);

    private (byte[] Bytes, Dictionary<string, uint> Labels) Finish()
    {
        var stream = new MemoryStream();
        AssemblerResult result = A.Assemble(new StreamCodeWriter(stream), _origin, BlockEncoderOptions.ReturnNewInstructionOffsets);
        if (_origin + stream.Length > _limit)
            throw new InvalidOperationException($"Ringlab code at 0x{_origin:X} has {stream.Length} bytes, only {_limit - _origin} are reserved.");
        Dictionary<string, uint> addresses = [];
        foreach ((string name, Label label) in _labels)
            addresses[name] = checked((uint)result.GetLabelRIP(label));
        foreach ((string name, uint address) in _addresses)
        {
            if (addresses[name] != address)
                throw new InvalidOperationException($"Label '{name}' moved between the passes.");
        }

        return (stream.ToArray(), addresses);
    }
}

/// <summary>The strings of all parts, each stored once, at a fixed address.</summary>
internal sealed class RinglabStrings
{
    private readonly Dictionary<string, uint> _addresses = [];
    private readonly List<byte> _bytes = [];

    public byte[] ToArray() => [.. _bytes];

    public uint Add(string text)
    {
        if (_addresses.TryGetValue(text, out uint known))
            return known;
        uint address = RinglabMap.Strings + (uint)_bytes.Count;
        _bytes.AddRange(Encoding.ASCII.GetBytes(text));
        _bytes.Add(0);
        if (RinglabMap.Strings + _bytes.Count > RinglabMap.Tables)
            throw new InvalidOperationException("Ringlab has more strings than room for them.");
        _addresses[text] = address;
        return address;
    }
}
