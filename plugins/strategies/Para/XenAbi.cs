namespace VirtPS.Strategy.Para;

/// <summary>Numbers of Xen's public headers (xen/include/public).</summary>
internal static class XenAbi
{
    /// <summary>DOMID_SELF; the id that our one domain has of its own; the domain that backends live in.</summary>
    public const ushort Self = 0x7FF0, DomainId = 1, BackendDomain = 0;

    /// <summary>2-level event channels: ports 1–4095.</summary>
    public const int PortCount = 4096;

    public const int MaxVcpus = 8;
    public const int PageSize = 4096;

    /// <summary>VIRQs (xen.h).</summary>
    public const uint VirqTimer = 0, VirqDebug = 1, VirqConsole = 2, VirqCount = 24;
}

/// <summary>Xen's error numbers (errno.h); hypercalls return them negative.</summary>
internal static class Errno
{
    public const long EPERM = -1, ENOENT = -2, ESRCH = -3, E2BIG = -7, EAGAIN = -11, ENOMEM = -12, EFAULT = -14, EBUSY = -16, EEXIST = -17, EINVAL = -22, ENOSPC = -28, ENOSYS = -38,
        ENODATA = -61;
}
