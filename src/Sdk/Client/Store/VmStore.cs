using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Store;

/// <summary>
/// The VMs on disk. Reading takes no lock (files are replaced whole); writing in a VM's folder asks for the VM's lock as a proof; choosing a name is done under the
/// store's lock. Thread-safe, and safe between processes.
/// </summary>
internal sealed class VmStore(StorePaths paths)
{
    /// <summary>The store's lock is held for the time of one scan and one write.</summary>
    private static readonly TimeSpan StoreLockPatience = TimeSpan.FromSeconds(30);

    public StorePaths Paths { get; } = paths;

    /// <summary>Ids of all VMs, in no order. An error when the store is there and cannot be listed.</summary>
    public IReadOnlyList<Guid> List()
    {
        try
        {
            var ids = new List<Guid>();
            foreach (string folder in Directory.EnumerateDirectories(Paths.VirtualMachines))
            {
                if (Guid.TryParseExact(Path.GetFileName(folder.AsSpan()), "D", out Guid id))
                    ids.Add(id);
            }

            return ids;
        }
        catch (DirectoryNotFoundException)
        {
            return [];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.StoreUnreadable, $"The store '{Paths.VirtualMachines}' cannot be read: {e.Message}", "Check the folder's rights, or set VIRTPS_HOME to another folder.", Paths.Root, e);
        }
    }

    /// <summary>Reads one VM. Errors: VMNotFound, StoreUnreadable.</summary>
    public VmDocument Load(Guid id) => TryLoad(id) ?? throw NotFound(id.ToString());

    /// <summary>Reads one VM; null when there is none.</summary>
    public VmDocument? TryLoad(Guid id)
    {
        string path = Paths.Document(id);
        byte[] content;
        try
        {
            content = File.ReadAllBytes(path);
        }
        catch (DirectoryNotFoundException)
        {
            return null;
        }
        catch (FileNotFoundException e)
        {
            // The folder may just have gone between two system calls.
            return Directory.Exists(Paths.Folder(id)) ? throw VmDocument.Unreadable(path, "the file is missing", e) : null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw VmDocument.Unreadable(path, e.Message, e);
        }

        VmDocument document = VmDocument.Parse(content, path);
        if (document.Configuration.Id != id)
            throw VmDocument.Unreadable(path, $"property 'id' is {document.Configuration.Id}, not the folder's");
        return document;
    }

    /// <summary>Adds a VM under a free name.</summary>
    public async Task CreateAsync(VmConfiguration configuration, CancellationToken cancellation)
    {
        VmNames.Validate(configuration.Name);
        EnsureRoot();
        using FileLock names = await LockNamesAsync(cancellation).ConfigureAwait(false);
        CheckNameFree(configuration.Name, configuration.Id);
        string unfinished = Path.Combine(Paths.VirtualMachines, $".new-{configuration.Id:N}");
        try
        {
            Directory.CreateDirectory(unfinished);
            AtomicFile.Write(Path.Combine(unfinished, "vm.json"), VmDocument.Create(configuration).ToUtf8());
            Directory.Move(unfinished, Paths.Folder(configuration.Id));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or VirtException)
        {
            DeleteFolder(unfinished);
            if (e is VirtException)
                throw;
            throw new VirtException(ErrorIds.StoreWriteFailed, $"Cannot make the VM's folder in '{Paths.VirtualMachines}': {e.Message}", "Make room on the disk, or check the rights of the folder.", Paths.Root, e);
        }
    }

    /// <summary>Replaces vm.json. <paramref name="held"/> is the VM's lock, as a proof.</summary>
    public void Save(VmDocument document, FileLock held)
    {
        ArgumentNullException.ThrowIfNull(held);
        AtomicFile.Write(Paths.Document(document.Configuration.Id), document.ToUtf8());
    }

    /// <summary>
    /// Chooses a new name under the store's lock and lets <paramref name="write"/> write it while the lock is held (directly or through the VM's worker).
    /// </summary>
    public async Task RenameAsync(Guid id, string newName, Func<CancellationToken, Task> write, CancellationToken cancellation)
    {
        VmNames.Validate(newName);
        EnsureRoot();
        using FileLock names = await LockNamesAsync(cancellation).ConfigureAwait(false);
        CheckNameFree(newName, id);
        await write(cancellation).ConfigureAwait(false);
    }

    /// <summary>Deletes a VM's folder, first out of sight (in one step), then for good. The lock's file goes with it.</summary>
    public void Delete(Guid id, FileLock held)
    {
        string doomed = Path.Combine(Paths.VirtualMachines, $".removed-{id:N}-{Guid.NewGuid():N}");
        try
        {
            if (OperatingSystem.IsWindows())
                held.Dispose();
            Directory.Move(Paths.Folder(id), doomed);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.StoreWriteFailed, $"Cannot remove '{Paths.Folder(id)}': {e.Message}", "Check the rights of the folder and that nothing in it is in use.", Paths.Folder(id), e);
        }

        DeleteFolder(doomed);
    }

    /// <summary>Takes a VM's lock; null when it is held for longer than <paramref name="patience"/>. Errors: VMNotFound.</summary>
    public async Task<FileLock?> LockAsync(Guid id, TimeSpan patience, CancellationToken cancellation)
    {
        if (!Directory.Exists(Paths.Folder(id)))
            throw NotFound(id.ToString());
        FileLock? taken;
        try
        {
            taken = await FileLock.AcquireAsync(Paths.VmLock(id), patience, cancellation).ConfigureAwait(false);
        }
        catch (DirectoryNotFoundException e)
        {
            throw NotFound(id.ToString(), e);
        }

        // The lock may be of a file that was removed while we waited.
        if (taken is not null && !File.Exists(Paths.Document(id)) && !Directory.Exists(Paths.Folder(id)))
        {
            taken.Dispose();
            throw NotFound(id.ToString());
        }

        return taken;
    }

    public bool IsLocked(Guid id) => FileLock.IsHeld(Paths.VmLock(id));

    internal static VirtException NotFound(string what, Exception? inner = null) =>
        new(ErrorIds.VMNotFound, $"There is no VM '{what}'.", "Get-VirtVM lists what there is.", what, inner);

    private async Task<FileLock> LockNamesAsync(CancellationToken cancellation) =>
        await FileLock.AcquireAsync(Paths.StoreLock, StoreLockPatience, cancellation).ConfigureAwait(false)
        ?? throw new VirtException(ErrorIds.VMBusy, $"The store's lock '{Paths.StoreLock}' is held by another process.", "Try again; if nothing of VirtPS is at work, restart the process that holds it.", Paths.StoreLock);

    private void CheckNameFree(string name, Guid except)
    {
        foreach (Guid id in List())
        {
            if (id == except)
                continue;
            VmDocument? other;
            try
            {
                other = TryLoad(id);
            }
            catch (VirtException)
            {
                // A VM that cannot be read has no name that could be in use; Get-VirtVM reports it.
                continue;
            }

            if (other is not null && VmNames.Comparer.Equals(other.Configuration.Name, name))
                throw new VirtException(ErrorIds.VMNameInUse, $"A VM named '{other.Configuration.Name}' exists already ({id}).", "Choose another name, or remove that VM first.", name);
        }
    }

    private void EnsureRoot()
    {
        try
        {
            if (OperatingSystem.IsWindows())
                Directory.CreateDirectory(Paths.VirtualMachines);
            else
                Directory.CreateDirectory(Paths.VirtualMachines, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new VirtException(ErrorIds.StoreUnreadable, $"The store '{Paths.Root}' cannot be made: {e.Message}", "Set VIRTPS_HOME to a folder that you may write in.", Paths.Root, e);
        }
    }

    private static void DeleteFolder(string folder)
    {
        try
        {
            Directory.Delete(folder, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It is out of sight already; what is left costs only room.
        }
    }
}
