namespace VirtPS.Strategy.Para.Store;

/// <summary>Errors of the xenstore protocol; on the wire they travel by name (xen/include/public/io/xs_wire.h).</summary>
internal enum StoreError
{
    None,
    EINVAL,
    EACCES,
    EEXIST,
    ENOENT,
    ENOSPC,
    ENOSYS,
    EBUSY,
    EAGAIN,
    E2BIG,
    EPERM,
}

/// <summary>Message types (xs_wire.h).</summary>
internal enum StoreMessage : uint
{
    Control = 0,
    Directory = 1,
    Read = 2,
    GetPermissions = 3,
    Watch = 4,
    Unwatch = 5,
    TransactionStart = 6,
    TransactionEnd = 7,
    Introduce = 8,
    Release = 9,
    GetDomainPath = 10,
    Write = 11,
    MakeDirectory = 12,
    Remove = 13,
    SetPermissions = 14,
    WatchEvent = 15,
    Error = 16,
    IsDomainIntroduced = 17,
    Resume = 18,
    SetTarget = 19,
    ResetWatches = 21,
    DirectoryPart = 22,
}

/// <summary>What a domain may hold, so that none can exhaust the worker's memory. The numbers are those that xenstored uses, where it has one.</summary>
internal static class StoreQuota
{
    /// <summary>Nodes that a domain owns.</summary>
    public const int Nodes = 1000;

    /// <summary>Bytes of a node: value and permissions.</summary>
    public const int NodeBytes = 2048;

    public const int Watches = 128;

    public const int Transactions = 10;

    /// <summary>Nodes touched, and changes made, in one transaction.</summary>
    public const int TransactionNodes = 1024;

    /// <summary>Bytes of values written in one transaction.</summary>
    public const int TransactionBytes = 256 << 10;

    public const int PermissionsPerNode = 5;

    public const int AbsolutePath = 3072;

    public const int RelativePath = 2048;

    /// <summary>XENSTORE_PAYLOAD_MAX.</summary>
    public const int Payload = 4096;

    /// <summary>Bytes of replies that wait for the guest to make room in its ring before no further request is read.</summary>
    public const int Backlog = 16 << 10;

    /// <summary>Bytes of watch events that wait; what comes then is dropped and counted.</summary>
    public const int Events = 512 << 10;
}
