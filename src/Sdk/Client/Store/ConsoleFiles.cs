using System.Runtime.CompilerServices;

namespace VirtPS.Client.Store;

/// <summary>Reads a run's console logs when no worker is there to tell.</summary>
internal static class ConsoleFiles
{
    private const int PieceSize = 64 << 10;

    public static async IAsyncEnumerable<ReadOnlyMemory<byte>> ReadAsync(IEnumerable<string> paths, [EnumeratorCancellation] CancellationToken cancellation)
    {
        foreach (string path in paths)
        {
            if (!File.Exists(path))
                continue;
            var file = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete, 0, useAsync: true);
            await using (file.ConfigureAwait(false))
            {
                byte[] buffer = new byte[PieceSize];
                for (int n; (n = await file.ReadAsync(buffer, cancellation).ConfigureAwait(false)) > 0;)
                    yield return buffer.AsMemory(0, n).ToArray();
            }
        }
    }
}
