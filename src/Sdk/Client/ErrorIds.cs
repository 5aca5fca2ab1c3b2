namespace VirtPS.Client;

/// <summary>Every <see cref="Sdk.VirtException.ErrorId"/> the client raises by itself; a worker's own errors pass through with theirs.</summary>
public static class ErrorIds
{
    public const string VMNotFound = nameof(VMNotFound);
    public const string VMNameInUse = nameof(VMNameInUse);
    public const string VMNameInvalid = nameof(VMNameInvalid);
    public const string InvalidVMState = nameof(InvalidVMState);

    /// <summary>vm.json or the store cannot be read; the message names the file and the offset.</summary>
    public const string StoreUnreadable = nameof(StoreUnreadable);
    public const string StoreWriteFailed = nameof(StoreWriteFailed);

    /// <summary>Another process holds the VM's lock and does not let go.</summary>
    public const string VMBusy = nameof(VMBusy);
    public const string ConfigurationInvalid = nameof(ConfigurationInvalid);
    public const string MemoryInvalid = nameof(MemoryInvalid);
    public const string StrategyNotFound = nameof(StrategyNotFound);
    public const string StrategyUnavailable = nameof(StrategyUnavailable);
    public const string DeviceNotFound = nameof(DeviceNotFound);
    public const string DeviceNameInUse = nameof(DeviceNameInUse);
    public const string DeviceModelNotFound = nameof(DeviceModelNotFound);
    public const string DevicePropertyInvalid = nameof(DevicePropertyInvalid);
    public const string ImageInvalid = nameof(ImageInvalid);
    public const string ImageNotFound = nameof(ImageNotFound);

    /// <summary>An image cannot be fetched on this host; the message says what to do instead.</summary>
    public const string ImageUnavailable = nameof(ImageUnavailable);

    public const string DiskNotFound = nameof(DiskNotFound);
    public const string DiskExists = nameof(DiskExists);

    /// <summary>A file is no disk, or a disk cannot have that size.</summary>
    public const string DiskInvalid = nameof(DiskInvalid);

    /// <summary>Another VM has the disk's file open.</summary>
    public const string DiskInUse = nameof(DiskInUse);
    public const string WorkerNotFound = nameof(WorkerNotFound);
    public const string WorkerStartFailed = nameof(WorkerStartFailed);
    public const string WorkerNotResponding = nameof(WorkerNotResponding);

    /// <summary>The worker met an error of its own; its log says more.</summary>
    public const string WorkerFailed = nameof(WorkerFailed);

    /// <summary>The worker ended while it was asked.</summary>
    public const string WorkerGone = nameof(WorkerGone);

    /// <summary>Worker and shell are of versions that cannot do this together.</summary>
    public const string ProtocolMismatch = nameof(ProtocolMismatch);
    public const string AccessDenied = nameof(AccessDenied);
    public const string GuestDidNotStop = nameof(GuestDidNotStop);
    public const string WaitTimeout = nameof(WaitTimeout);

    /// <summary>What was waited for can no longer come: the VM stopped.</summary>
    public const string WaitEnded = nameof(WaitEnded);
    public const string GuestAddressInvalid = nameof(GuestAddressInvalid);
    public const string VcpuNotFound = nameof(VcpuNotFound);
    public const string PluginNotFound = nameof(PluginNotFound);
    public const string PluginLoadFailed = nameof(PluginLoadFailed);
    public const string HostNotSupported = nameof(HostNotSupported);
}
