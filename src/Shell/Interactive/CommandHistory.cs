namespace VirtPS.Shell.Interactive;

/// <summary>Typed commands, oldest first, kept in a file between sessions. Several shells may append to the same file.</summary>
internal sealed class CommandHistory
{
    private const int Limit = 4096;
    private readonly List<string> _items;
    private readonly string? _path;

    private CommandHistory(List<string> items, string? path)
    {
        _items = items;
        _path = path;
    }

    public IReadOnlyList<string> Items => _items;

    /// <summary>Reads the file where it exists. A history that can't be read is an empty one: no reason to refuse a shell.</summary>
    public static CommandHistory Load(string path)
    {
        try
        {
            var items = File.Exists(path) ? File.ReadAllLines(path).Select(Decode).TakeLast(Limit).ToList() : [];
            return new CommandHistory(items, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new CommandHistory([], path: null);
        }
    }

    /// <summary>Remembers a command, unless it repeats the last one or begins with a blank (the usual way to keep one out).</summary>
    public void Add(string command)
    {
        if (command.StartsWith(' ') || (_items.Count > 0 && _items[^1] == command))
        {
            return;
        }
        _items.Add(command);
        if (_path is null)
        {
            return;
        }
        try
        {
            Directory.CreateDirectory(Path.GetDirectoryName(_path)!);
            bool isNew = !File.Exists(_path);
            File.AppendAllText(_path, Encode(command) + "\n");
            if (isNew && !OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(_path, UnixFileMode.UserRead | UnixFileMode.UserWrite);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The command itself is not affected by a history that can't be written (read-only home).
        }
    }

    private static string Encode(string command) =>
        command.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\r", "", StringComparison.Ordinal).Replace("\n", "\\n", StringComparison.Ordinal);

    private static string Decode(string line)
    {
        var text = new System.Text.StringBuilder(line.Length);
        for (int i = 0; i < line.Length; i++)
        {
            if (line[i] == '\\' && i + 1 < line.Length)
            {
                i++;
                text.Append(line[i] == 'n' ? '\n' : line[i]);
            }
            else
            {
                text.Append(line[i]);
            }
        }
        return text.ToString();
    }
}
