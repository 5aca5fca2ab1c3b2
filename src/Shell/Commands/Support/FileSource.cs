using System.Management.Automation;
using System.Text;

namespace VirtPS.Shell.Commands.Support;

/// <summary>Finds and opens the files that a cmdlet reads text from.</summary>
internal static class FileSource
{
    /// <summary>The files a path names; one that is not there is an error record and no file.</summary>
    public static IReadOnlyList<string> Resolve(PSCmdlet command, string path, bool isLiteral)
    {
        try
        {
            ProviderInfo provider;
            IReadOnlyList<string> files = isLiteral
                ? [command.SessionState.Path.GetUnresolvedProviderPathFromPSPath(path, out provider, out _)]
                : command.SessionState.Path.GetResolvedProviderPathFromPSPath(path, out provider);
            if (provider.Name.Equals("FileSystem", StringComparison.OrdinalIgnoreCase))
            {
                return files;
            }
            command.WriteError(new ErrorRecord(
                new PSInvalidOperationException($"'{path}' is in the {provider.Name} provider; a file is needed."), "ReadWriteFileNotFileSystemProvider", ErrorCategory.InvalidArgument, path));
        }
        catch (SessionStateException e)
        {
            command.WriteError(new ErrorRecord(e.ErrorRecord, e));
        }
        return [];
    }

    /// <summary>Opens a file for reading; null, and an error record, when that fails. A byte order mark wins over the encoding.</summary>
    public static StreamReader? Open(PSCmdlet command, string file, Encoding encoding)
    {
        try
        {
            return new StreamReader(new FileStream(file, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete), encoding, detectEncodingFromByteOrderMarks: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            command.WriteError(new ErrorRecord(e, "FileOpenFailure", e is FileNotFoundException ? ErrorCategory.ObjectNotFound : ErrorCategory.OpenError, file));
            return null;
        }
    }
}
