using System.Text;
using System.Text.RegularExpressions;
using VirtPS.Sdk;

namespace VirtPS.Client;

/// <summary>Turns console bytes, which may come cut anywhere, into text: UTF-8, line ends as \n.</summary>
internal sealed class ConsoleDecoder
{
    private readonly Decoder _decoder = Encoding.UTF8.GetDecoder();
    private bool _heldReturn;

    /// <summary>Appends the text of <paramref name="bytes"/>; a CR at the end is held back until it is known whether an LF follows.</summary>
    public void Append(ReadOnlySpan<byte> bytes, StringBuilder text)
    {
        char[] buffer = System.Buffers.ArrayPool<char>.Shared.Rent(Encoding.UTF8.GetMaxCharCount(bytes.Length));
        try
        {
            int n = _decoder.GetChars(bytes, buffer, flush: false);
            foreach (char c in buffer.AsSpan(0, n))
            {
                // Terminals send CR LF, sometimes CR CR LF; a CR by itself is an overprint and stays.
                if (_heldReturn && c is not ('\n' or '\r'))
                    text.Append('\r');
                _heldReturn = c == '\r';
                if (!_heldReturn)
                    text.Append(c);
            }
        }
        finally
        {
            System.Buffers.ArrayPool<char>.Shared.Return(buffer);
        }
    }
}

/// <summary>Finds a pattern in output that goes on and on. A match may span up to <see cref="Window"/> characters.</summary>
internal sealed class ConsoleMatcher
{
    private const int Window = 64 << 10;
    private static readonly TimeSpan MatchTimeout = TimeSpan.FromSeconds(5);

    private readonly ConsoleDecoder _decoder = new();
    private readonly StringBuilder _text = new();
    private readonly Regex _regex;

    /// <summary>Errors: ConfigurationInvalid for a pattern that is no regular expression.</summary>
    public ConsoleMatcher(string pattern)
    {
        try
        {
            // Multiline: ^ and $ mean lines, which is also what keeps the cut of the window from looking like a beginning.
            _regex = new Regex(pattern, RegexOptions.Multiline | RegexOptions.CultureInvariant, MatchTimeout);
        }
        catch (ArgumentException e)
        {
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"'{pattern}' is not a regular expression: {e.Message}", "Escape what is meant literally ([regex]::Escape).", pattern, e);
        }
    }

    /// <summary>Takes more output; the matched text, or null.</summary>
    public string? Add(ReadOnlySpan<byte> bytes)
    {
        _decoder.Append(bytes, _text);
        string text = _text.ToString();
        Match match;
        try
        {
            match = _regex.Match(text);
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"Matching '{e.Pattern}' takes too long on this output.", "Use a simpler pattern.", e.Pattern, e);
        }

        if (match.Success)
            return match.Value;
        if (text.Length > 2 * Window)
        {
            // Cut behind a line's end, so that ^ stays true.
            int cut = text.IndexOf('\n', text.Length - Window) + 1;
            _text.Remove(0, cut > 0 ? cut : text.Length - Window);
        }

        return null;
    }
}

/// <summary>Cuts console output into lines.</summary>
internal sealed class ConsoleLines
{
    private readonly ConsoleDecoder _decoder = new();
    private readonly StringBuilder _text = new();

    /// <summary>The lines that <paramref name="bytes"/> complete.</summary>
    public IReadOnlyList<string> Add(ReadOnlySpan<byte> bytes)
    {
        _decoder.Append(bytes, _text);
        string text = _text.ToString();
        int end = text.LastIndexOf('\n');
        if (end < 0)
            return [];
        _text.Remove(0, end + 1);
        return text[..end].Split('\n');
    }

    /// <summary>What is left without an end of line; null when nothing is.</summary>
    public string? Rest => _text.Length > 0 ? _text.ToString() : null;
}
