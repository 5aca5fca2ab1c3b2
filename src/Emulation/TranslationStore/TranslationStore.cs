using System.IO.Hashing;
using System.Runtime.InteropServices;
using System.Text;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk;

namespace VirtPS.Emulation;

/// <summary>
/// Decoded and translated blocks of former runs, in one file of a folder of the user's for each engine and host (docs/TRANSLATION.md). What is read is found by its bytes; what is new is added when the machine
/// ends. Nothing that is wrong with folder or file costs more than the blocks in it.
/// </summary>
internal sealed unsafe class TranslationStore : IDisposable
{
    /// <summary>A file holds no more; what was longest not used goes first. A folder holds so many files.</summary>
    public const int MaxFileBytes = 96 << 20;
    private const int MaxFiles = 4;

    /// <summary>So often the file is written with a block that names its place and that nobody takes: other guests, whose runs come between, are not to drive it out at once.</summary>
    private const int PlacedRuns = 4;
    private const string Extension = ".blocks";

    private readonly string _folder, _path;
    private readonly byte[] _key;
    private readonly ILog _log;
    private readonly Lock _gate = new();
    private readonly StoreFile? _file;
    private readonly HashSet<ulong> _known = [];
    private readonly List<byte[]> _new = [];
    private long _newBytes;

    /// <summary>Of the new ones, those for which the file is written: not what is likely to be useless next time.</summary>
    private int _wanted;

    public TranslationStore(string folder, EngineOptions engine, ILog log)
    {
        _folder = folder;
        _log = log;
        // It keeps strangers' blocks out, not attackers (the file is its user's alone): what would bring a cryptographic library up costs a starting machine milliseconds.
        _key = XxHash128.Hash(Encoding.UTF8.GetBytes(Describe(engine)));
        _path = Path.Combine(folder, Convert.ToHexStringLower(_key.AsSpan(0, 8)) + Extension);
        _file = StoreFile.Open(_path, _key);
    }

    /// <summary>Everything besides guest code and mode that blocks and generated code depend on.</summary>
    private static string Describe(EngineOptions engine)
    {
        Type[] layouts = [typeof(TranslationStore), typeof(Sdk.Cpu.VcpuState), typeof(X86.SegmentRegister), typeof(Iced.Intel.Code)];
        string builds = string.Join(' ', layouts.Select(t => t.Module.ModuleVersionId.ToString("N")));
        return $"{StoreFile.FormatVersion} {builds} {HostFeatures.Current} {engine.DescribeCode()}";
    }

    /// <summary>Blocks in the file that was found.</summary>
    public int Count => _file?.Count ?? 0;

    /// <summary>See <see cref="StoreFile.Find"/>.</summary>
    public StoredBlock* Find(ref StoreCursor cursor, uint mode, int pageOffset, byte* source, int available) =>
        _file is null ? null : _file.Find(ref cursor, mode, pageOffset, source, available);

    /// <summary>Adds a block, unless there is one like it. Any thread.</summary>
    public void Add(StoredBlock* block)
    {
        lock (_gate)
        {
            if (_newBytes + block->Length > MaxFileBytes || !_known.Add(StoredBlock.Identity(block)))
                return;
            _new.Add(new ReadOnlySpan<byte>(block, (int)block->Length).ToArray());
            _newBytes += block->Length;
            _wanted += block->IsPlaced == 0 ? 1 : 0;
        }
    }

    /// <summary>Writes the file anew if enough is new. Two that do so at the same time do not disturb each other: one's new blocks are lost.</summary>
    public void Save()
    {
        lock (_gate)
        {
            if (_wanted == 0 || _wanted * 64L < Count)
                return;
            try
            {
                CreateFolder();
                string temporary = Path.Combine(_folder, $".{Environment.ProcessId}-{Guid.NewGuid():N}");
                try
                {
                    Write(temporary);
                    File.Move(temporary, _path, overwrite: true);
                }
                finally
                {
                    File.Delete(temporary);
                }

                RemoveOld();
                _new.Clear();
                _wanted = 0;
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                _log.Write(LogLevel.Warning, $"Translations could not be kept in '{_folder}': {e.Message}");
            }
        }
    }

    private void CreateFolder()
    {
        const UnixFileMode Mine = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
        if (OperatingSystem.IsWindows())
            Directory.CreateDirectory(_folder);
        else
            Directory.CreateDirectory(_folder, Mine);
    }

    private void Write(string path)
    {
        var options = new FileStreamOptions { Mode = FileMode.CreateNew, Access = FileAccess.ReadWrite, BufferSize = 1 << 20 };
        if (!OperatingSystem.IsWindows())
            options.UnixCreateMode = UnixFileMode.UserRead | UnixFileMode.UserWrite;
        using var stream = new FileStream(path, options);
        // Somebody else may have written it since it was opened here: then that is what is added to.
        StoreFile? present = StoreFile.Open(_path, _key);
        try
        {
            bool same = present is not null && _file is not null && present.Head->Run == _file.Head->Run && present.Count == _file.Count;
            StoreFile? old = same ? _file : present;
            var writer = new StoreWriter(stream, _key, (old == null ? 0 : old.Head->Run) + 1);
            foreach (byte[] record in _new)
            {
                fixed (byte* p = record)
                    writer.Add((StoredBlock*)p, writer.Run);
            }

            if (old is not null)
                AddOld(writer, old);
            writer.Finish();
        }
        finally
        {
            present?.Dispose();
        }
    }

    /// <summary>
    /// What the file had, in its order, as far as there is room: what was used last comes before all else then. What names its place is of no use any more if for some runs nobody took it.
    /// </summary>
    private void AddOld(StoreWriter writer, StoreFile old)
    {
        int[] order = [.. Enumerable.Range(0, old.Count)];
        if (writer.Length + old.Head->IndexOffset > MaxFileBytes)
            Array.Sort(order, (a, b) => old.LastRunOf(b).CompareTo(old.LastRunOf(a)));
        foreach (int i in order)
        {
            StoredBlock* b = old.RecordAt(i);
            if (b != null && (b->IsPlaced == 0 || writer.Run - old.LastRunOf(i) < PlacedRuns) && writer.Length + b->Length <= MaxFileBytes && !_known.Contains(StoredBlock.Identity(b)))
                writer.Add(b, old.LastRunOf(i));
        }
    }

    /// <summary>Files of other engines, and what a killed process left.</summary>
    private void RemoveOld()
    {
        FileInfo[] files = [.. new DirectoryInfo(_folder).GetFiles('*' + Extension).OrderByDescending(f => f.LastWriteTimeUtc)];
        foreach (FileInfo file in files.Skip(MaxFiles))
            file.Delete();
        foreach (FileInfo file in new DirectoryInfo(_folder).GetFiles(".*"))
        {
            if (DateTime.UtcNow - file.LastWriteTimeUtc > TimeSpan.FromHours(1))
                file.Delete();
        }
    }

    public void Dispose() => _file?.Dispose();
}
