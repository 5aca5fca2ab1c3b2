using System.Collections.ObjectModel;
using System.Management.Automation;
using System.Text;

namespace VirtPS.Shell.Commands.Support;

/// <summary>Finds and opens the file that a cmdlet writes text to (Out-File, Export-Csv, Tee-Object).</summary>
internal static class FileTarget
{
    /// <summary>The file system path that a PowerShell path names. Errors are terminating.</summary>
    public static string Resolve(PSCmdlet command, string path, bool isLiteral)
    {
        string resolved = command.SessionState.Path.GetUnresolvedProviderPathFromPSPath(path, out ProviderInfo provider, out _);
        if (!isLiteral && WildcardPattern.ContainsWildcardCharacters(path))
        {
            Collection<string> found = command.SessionState.Path.GetResolvedProviderPathFromPSPath(path, out provider);
            if (found.Count > 1)
            {
                throw Terminating(command, new PSInvalidOperationException($"'{path}' names {found.Count} files; exactly one can be written."), "ReadWriteMultipleFilesNotSupported", path);
            }
            resolved = found.Count == 1 ? found[0] : resolved;
        }
        if (!provider.Name.Equals("FileSystem", StringComparison.OrdinalIgnoreCase))
        {
            throw Terminating(command, new PSInvalidOperationException($"'{path}' is in the {provider.Name} provider; a file is needed."), "ReadWriteFileNotFileSystemProvider", path);
        }
        return resolved;
    }

    /// <summary>Opens a file for text. Errors are terminating and name the file.</summary>
    public static StreamWriter Open(PSCmdlet command, string path, Encoding encoding, bool append, bool force, bool noClobber)
    {
        try
        {
            if (force && File.Exists(path) && (File.GetAttributes(path) & FileAttributes.ReadOnly) != 0)
            {
                File.SetAttributes(path, File.GetAttributes(path) & ~FileAttributes.ReadOnly);
            }
            FileMode mode = append ? FileMode.Append : noClobber ? FileMode.CreateNew : FileMode.Create;
            var stream = new FileStream(path, mode, FileAccess.Write, FileShare.Read);
            return new StreamWriter(stream, encoding);
        }
        catch (IOException e) when (noClobber && File.Exists(path))
        {
            throw Terminating(command, e, "NoClobber", path, ErrorCategory.ResourceExists);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw Terminating(command, e, "FileOpenFailure", path, ErrorCategory.OpenError);
        }
    }

    private static PipelineStoppedException Terminating(PSCmdlet command, Exception error, string id, string path, ErrorCategory category = ErrorCategory.InvalidArgument)
    {
        command.ThrowTerminatingError(new ErrorRecord(error, id, category, path));
        return new PipelineStoppedException(); // never reached: ThrowTerminatingError throws
    }
}
