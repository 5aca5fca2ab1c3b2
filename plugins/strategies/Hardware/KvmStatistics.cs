using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace VirtPS.Strategy.Hardware;

/// <summary>What KVM itself counts for a vCPU (KVM_GET_STATS_FD, Linux 5.14; api.rst 4.133), by KVM's own names. Any thread.</summary>
internal sealed class KvmStatistics : IDisposable
{
    private const int TypeMask = 0xF, Cumulative = 0, HeaderSize = 24, DescriptorSize = 16;

    private readonly SafeFileHandle _file;
    private readonly (string Name, long Offset)[] _values;

    private KvmStatistics(SafeFileHandle file)
    {
        _file = file;
        // struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
        byte[] header = Read(0, HeaderSize);
        int nameSize = (int)Word(header, 4), count = (int)Word(header, 8);
        long descriptors = Word(header, 16), data = Word(header, 20);
        int each = DescriptorSize + nameSize;
        byte[] table = Read(descriptors, count * each);
        List<(string, long)> values = [];
        for (int i = 0; i < count; i++)
        {
            // struct kvm_stats_desc: flags, exponent (16 bits), size (16 bits, in values), offset, bucket_size, name.
            ReadOnlySpan<byte> entry = table.AsSpan(i * each, each);
            if ((Word(entry, 0) & TypeMask) == Cumulative && BinaryPrimitives.ReadUInt16LittleEndian(entry[6..]) == 1)
                values.Add((Encoding.ASCII.GetString(entry[DescriptorSize..]).TrimEnd('\0'), data + Word(entry, 8)));
        }

        _values = [.. values];
    }

    /// <summary>Null where this KVM has no such file.</summary>
    public static KvmStatistics? TryOpen(int vcpu)
    {
        int fd = LinuxCalls.Ioctl(vcpu, Kvm.GetStatsFd, (nuint)0);
        if (fd < 0)
            return null;
        var file = new SafeFileHandle(fd, ownsHandle: true);
        try
        {
            return new KvmStatistics(file);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Adds what is not zero, as <c>kvm.exits</c>, <c>kvm.halt_exits</c> …</summary>
    public void AddTo(Dictionary<string, ulong> counters)
    {
        foreach ((string name, long offset) in _values)
        {
            ulong value = BinaryPrimitives.ReadUInt64LittleEndian(Read(offset, 8));
            if (value != 0)
                counters["kvm." + name] = value;
        }
    }

    private byte[] Read(long offset, int length)
    {
        var bytes = new byte[length];
        int done = RandomAccess.Read(_file, bytes, offset);
        return done == length ? bytes : throw new Sdk.VirtException("StrategyUnavailable", string.Create(CultureInfo.InvariantCulture, $"KVM's statistics end after {offset + done} bytes."));
    }

    private static uint Word(ReadOnlySpan<byte> bytes, int offset) => BinaryPrimitives.ReadUInt32LittleEndian(bytes[offset..]);

    public void Dispose() => _file.Dispose();
}

/// <summary>
/// Processor time of one thread as the host's kernel accounts it (proc(5), /proc/pid/task/tid/stat): in user mode, in the kernel, in guest mode. Counted in clock ticks, of which there are 100
/// a second; where time goes is sampled at the kernel's own tick, unless it was built with full accounting.
/// </summary>
internal static class ThreadTimes
{
    private const int User = 13, Kernel = 14, Guest = 42, TickMilliseconds = 10;

    /// <summary>Guest code, KVM and the rest of the kernel, this process; null when the thread is no more.</summary>
    public static (TimeSpan Guest, TimeSpan Kernel, TimeSpan Vmm)? Of(int thread)
    {
        string text;
        try
        {
            text = File.ReadAllText(string.Create(CultureInfo.InvariantCulture, $"/proc/self/task/{thread}/stat"));
        }
        catch (IOException)
        {
            return null;
        }

        // The second field, the name in brackets, may hold blanks.
        string[] fields = text[(text.LastIndexOf(')') + 2)..].Split(' ');
        TimeSpan At(int field) => TimeSpan.FromMilliseconds(TickMilliseconds * long.Parse(fields[field - 2], CultureInfo.InvariantCulture));
        TimeSpan guest = At(Guest), user = At(User);
        // User time includes the guest's.
        return (guest, At(Kernel), user > guest ? user - guest : TimeSpan.Zero);
    }
}
