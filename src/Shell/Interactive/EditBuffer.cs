using System.Text;

namespace VirtPS.Shell.Interactive;

/// <summary>The text being edited and the cursor in it.</summary>
internal sealed class EditBuffer
{
    private readonly StringBuilder _text = new();

    public string Text => _text.ToString();
    public int Length => _text.Length;
    public int Cursor { get; private set; }

    public void Insert(string text)
    {
        _text.Insert(Cursor, text);
        Cursor += text.Length;
    }

    public void Set(string text)
    {
        _text.Clear().Append(text);
        Cursor = text.Length;
    }

    public void Replace(int start, int length, string text)
    {
        _text.Remove(start, length).Insert(start, text);
        Cursor = start + text.Length;
    }

    public void MoveTo(int position) => Cursor = Math.Clamp(position, 0, Length);

    public void Backspace()
    {
        if (Cursor > 0)
        {
            int width = Cursor > 1 && char.IsLowSurrogate(_text[Cursor - 1]) ? 2 : 1;
            Remove(Cursor - width, width);
        }
    }

    public void Delete()
    {
        if (Cursor < Length)
        {
            Remove(Cursor, Cursor + 1 < Length && char.IsHighSurrogate(_text[Cursor]) ? 2 : 1);
        }
    }

    /// <summary>Removes the characters between the cursor and <paramref name="position"/>, on either side.</summary>
    public void DeleteTo(int position)
    {
        int other = Math.Clamp(position, 0, Length);
        Remove(Math.Min(other, Cursor), Math.Abs(other - Cursor));
    }

    public int PreviousWord()
    {
        int i = Cursor;
        while (i > 0 && !char.IsLetterOrDigit(_text[i - 1]))
        {
            i--;
        }
        while (i > 0 && char.IsLetterOrDigit(_text[i - 1]))
        {
            i--;
        }
        return i;
    }

    public int NextWord()
    {
        int i = Cursor;
        while (i < Length && !char.IsLetterOrDigit(_text[i]))
        {
            i++;
        }
        while (i < Length && char.IsLetterOrDigit(_text[i]))
        {
            i++;
        }
        return i;
    }

    private void Remove(int start, int length)
    {
        _text.Remove(start, length);
        Cursor = start;
    }
}
