using System.Text;
using VirtPS.Strategy.Para.EventChannels;
using VirtPS.Strategy.Para.GrantTables;
using VirtPS.Strategy.Para.Mmu;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// Event channels, grants, version, console, and the small rest.
internal sealed unsafe partial class XenVcpu
{
    private const int MaxConsoleWrite = 4096;

    /// <summary>event_channel_op(command, argument).</summary>
    private long EventChannelOperation(ulong command, ulong argument)
    {
        const uint bindInterdomain = 0, bindVirq = 1, close = 3, send = 4, status = 5, allocUnbound = 6, bindIpi = 7, bindVcpu = 8, unmask = 9;
        uint* a = stackalloc uint[6];
        int size = command switch
        {
            bindVirq or bindInterdomain => 12,
            status => 24,
            close or send or unmask => 4,
            allocUnbound or bindIpi or bindVcpu => 8,
            _ => 0,
        };
        if (size == 0)
            return Errno.ENOSYS;
        if (!CopyFrom(argument, a, size))
            return Errno.EFAULT;
        EventChannelTable ports = Domain.Ports;
        switch (command)
        {
            case bindVirq:
                return StorePort(ports.BindVirq(a[0], a[1]), argument + 8);
            case bindIpi:
                return StorePort(ports.BindIpi(a[0]), argument + 4);
            case allocUnbound:
                return IsSelf((ushort)a[0]) ? StorePort(ports.AllocateUnbound((ushort)(a[0] >> 16)), argument + 4) : Errno.EPERM;
            case close:
                return ports.Close(a[0]);
            case send:
                return ports.Send(a[0], Index);
            case bindVcpu:
                return ports.BindVcpu(a[0], a[1]);
            case unmask:
                return ports.Unmask(a[0], Index);
            case status:
                return PortStatus(a, argument);
            default:
                // Frontends offer, backends bind: nobody offers anything to this domain.
                return Errno.EINVAL;
        }
    }

    private long StorePort(long port, ulong at) => port < 0 ? port : Write(at, (uint)port) ? 0 : Errno.EFAULT;

    /// <summary>struct evtchn_status: domain, port, status, vCPU, what it is bound to.</summary>
    private long PortStatus(uint* a, ulong argument)
    {
        if (!IsSelf((ushort)a[0]))
            return Errno.EPERM;
        if (!Domain.Ports.Status(a[1], out PortState state, out uint vcpu, out uint detail))
            return Errno.EINVAL;
        (a[2], a[3], a[4], a[5]) = ((uint)state, vcpu, detail, 0);
        return CopyTo(argument, a, 24) ? 0 : Errno.EFAULT;
    }

    /// <summary>grant_table_op(command, list, count): what a domain does with its own table; mapping others' pages is for backends.</summary>
    private long GrantTableOperation(ulong command, ulong list, ulong count)
    {
        const uint setupTable = 2, querySize = 6, setVersion = 8, getVersion = 10;
        if (count != 1)
            return count == 0 ? 0 : Errno.EINVAL;
        switch (command)
        {
            case setupTable:
                return SetUpGrantTable(list);
            case querySize:
                if (!Read(list, out ushort domain))
                    return Errno.EFAULT;
                return Write(list + 4, (uint)Domain.Grants.FrameCount) && Write(list + 8, (uint)XenArea.GrantFrameCount) && Write(list + 12, IsSelf(domain) ? (short)0 : (short)-1) ? 0 : Errno.EFAULT;
            case setVersion:
                return !Read(list, out uint version) ? Errno.EFAULT : version != 1 ? Errno.EINVAL : 0;
            case getVersion:
                return Write(list + 4, 1u) ? 0 : Errno.EFAULT;
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>struct gnttab_setup_table: domain, number of frames, status, where their frame numbers go.</summary>
    private long SetUpGrantTable(ulong argument)
    {
        const short badDomain = -2, noMemory = -9;
        ulong* a = stackalloc ulong[3];
        if (!CopyFrom(argument, a, 24))
            return Errno.EFAULT;
        uint frames = (uint)(a[0] >> 32);
        short status = !IsSelf((ushort)a[0]) ? badDomain : Domain.Grants.Grow(frames) ? (short)0 : noMemory;
        for (uint i = 0; status == 0 && i < frames; i++)
        {
            if (!Write(a[2] + i * 8, Domain.Area.GrantFrame((int)i)))
                return Errno.EFAULT;
        }

        return Write(argument + 8, status) ? 0 : Errno.EFAULT;
    }

    /// <summary>xen_version(command, buffer).</summary>
    private long Version(ulong command, ulong buffer)
    {
        const uint version = 0, extraVersion = 1, compileInfo = 2, capabilities = 3, changeSet = 4, platform = 5, features = 6, pageSize = 7, handle = 8, commandLine = 9, buildId = 10;
        switch (command)
        {
            case version:
                return 4 << 16 | 17;
            case extraVersion:
                return WriteText(buffer, ".0-virtps", 16);
            case compileInfo:
                return WriteText(buffer, "", 64 + 16 + 32 + 32);
            case capabilities:
                return WriteText(buffer, "xen-3.0-x86_64", 1024);
            case changeSet:
                return WriteText(buffer, "", 64);
            case platform:
                return Write(buffer, XenArea.Start) ? 0 : Errno.EFAULT;
            case features:
                return Features(buffer);
            case pageSize:
                return 4096;
            case handle:
                byte* id = stackalloc byte[16];
                Domain.Configuration.Id.TryWriteBytes(new Span<byte>(id, 16), bigEndian: true, out _);
                return CopyTo(buffer, id, 16) ? 0 : Errno.EFAULT;
            case commandLine:
                return WriteText(buffer, "", 1024);
            case buildId:
                return Errno.ENODATA;
            default:
                return Errno.ENOSYS;
        }
    }

    /// <summary>struct xen_feature_info: sub-map, bits. Of sub-map 0: page-table updates that keep accessed and dirty bits (5), the memory operations' form (8), software bits of grant mappings (7).</summary>
    private long Features(ulong buffer)
    {
        const uint preserveAccessed = 1 << 5, grantBits = 1 << 7;
        if (!Read(buffer, out uint index))
            return Errno.EFAULT;
        if (index > 0)
            return Errno.EINVAL;
        return Write(buffer + 4, preserveAccessed | grantBits) ? 0 : Errno.EFAULT;
    }

    private long WriteText(ulong buffer, string text, int size)
    {
        byte* bytes = stackalloc byte[1024];
        new Span<byte>(bytes, size).Clear();
        Encoding.ASCII.GetBytes(text, new Span<byte>(bytes, size));
        return CopyTo(buffer, bytes, size) ? 0 : Errno.EFAULT;
    }

    /// <summary>console_io(command, count, buffer): the hypervisor's own console, which here is the guest's.</summary>
    private long ConsoleIo(ulong command, ulong count, ulong buffer)
    {
        const uint write = 0, read = 1;
        if (command == read)
            return 0;
        if (command != write)
            return Errno.ENOSYS;
        byte[] text = new byte[(int)Math.Min(count, MaxConsoleWrite)];
        fixed (byte* p = text)
        {
            if (!CopyFrom(buffer, p, text.Length))
                return Errno.EFAULT;
        }

        Domain.Post(() => Domain.Console.Write(text));
        return count > MaxConsoleWrite ? Errno.E2BIG : 0;
    }

    /// <summary>vm_assist(command, type): 0 four-gigabyte segments and 1 their notification are for 32 bits; 2 writable page tables; 3 PAE directories; 5 run state flags.</summary>
    private static long Assist(ulong command, ulong type) => command <= 1 && type is 0 or 2 or 3 ? 0 : Errno.EINVAL;

    /// <summary>physdev_op(command, argument): a domain without devices has its I/O privilege level and bitmap, and no more.</summary>
    private long PhysicalDeviceOperation(ulong command, ulong argument)
    {
        const uint setIopl = 6, setIoBitmap = 7;
        switch (command)
        {
            case setIopl:
                return !Read(argument, out uint level) ? Errno.EFAULT : level > 3 ? Errno.EINVAL : 0;
            case setIoBitmap:
                return Read(argument, out ulong _) ? 0 : Errno.EFAULT;
            default:
                return Errno.ENOSYS;
        }
    }
}
