using System.Text;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guests.RinglabXen;

/// <summary>Assembles one piece of 64-bit code with its texts behind it.</summary>
internal sealed class XenCode
{
    private readonly Dictionary<string, Label> _labels = [];
    private readonly List<(string Text, Label Label)> _texts = [];

    public Assembler A { get; } = new(64);

    public Label this[string name] => _labels.TryGetValue(name, out Label l) ? l : _labels[name] = A.CreateLabel(name);

    public void Mark(string name)
    {
        Label l = this[name];
        A.Label(ref l);
        _labels[name] = l;
    }

    /// <summary>RSI = the text, zero-terminated.</summary>
    public void LoadText(string text)
    {
        Label l = A.CreateLabel();
        _texts.Add((text, l));
        A.lea(rsi, __[l]);
    }

    /// <summary>Code and texts at <paramref name="address"/>; the label's addresses.</summary>
    public byte[] Assemble(ulong address, int limit)
    {
        foreach ((string text, Label label) in _texts)
        {
            Label l = label;
            A.Label(ref l);
            A.db([.. Encoding.ASCII.GetBytes(text), 0]);
        }

        var stream = new MemoryStream();
        A.Assemble(new StreamCodeWriter(stream), address);
        return stream.Length <= limit ? stream.ToArray() : throw new InvalidOperationException($"Code of {stream.Length} bytes does not fit into {limit}.");
    }
}
