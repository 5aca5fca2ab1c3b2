using System.Runtime.InteropServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// KVM_IOEVENTFD: a guest's write adds to an eventfd inside KVM and the vCPU goes on; one thread of the partition waits for all of them. The thread exists from the first doorbell on.
/// </summary>
internal sealed unsafe class KvmDoorbells(int vm) : IPartitionDoorbells, IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<Bell> _bells = [];
    private Thread? _thread;
    private int _wake = -1;
    private bool _stop;

    public IDisposable Add(ulong address, int size, ulong? value, Action rung)
    {
        lock (_gate)
        {
            if (_thread is null)
            {
                _wake = LinuxCalls.CreateEvent();
                _thread = new Thread(Wait) { Name = "kvm-doorbells", IsBackground = true };
                _thread.Start();
            }

            var bell = new Bell(this, LinuxCalls.CreateEvent(), address, size, value, rung);
            try
            {
                KvmDevice.Must(Assign(bell, 0), $"a doorbell of {size} bytes at 0x{address:X}");
            }
            catch
            {
                _ = LinuxCalls.Close(bell.Fd);
                throw;
            }

            _bells.Add(bell);
            LinuxCalls.Raise(_wake);
            return bell;
        }
    }

    /// <summary>Hands on what has rung, here and now: nothing is under way on return when no vCPU runs.</summary>
    public void Drain()
    {
        lock (_gate)
        {
            foreach (Bell bell in _bells)
            {
                if (LinuxCalls.TryTake(bell.Fd))
                    bell.Rung();
            }
        }
    }

    public void Dispose()
    {
        Thread? thread;
        lock (_gate)
        {
            _stop = true;
            thread = _thread;
            if (thread is not null)
                LinuxCalls.Raise(_wake);
        }

        if (thread is null)
            return;
        thread.Join();
        foreach (Bell bell in _bells)
            _ = LinuxCalls.Close(bell.Fd);
        _bells.Clear();
        _ = LinuxCalls.Close(_wake);
    }

    private int Assign(Bell bell, uint flags)
    {
        var argument = new KvmIoeventfd
        {
            Address = bell.Address,
            Length = (uint)bell.Size,
            Fd = bell.Fd,
            DataMatch = bell.Value ?? 0,
            Flags = flags | (bell.Value is null ? 0 : Kvm.IoeventfdDatamatch),
        };
        return LinuxCalls.Ioctl(vm, Kvm.Ioeventfd, &argument);
    }

    private void Remove(Bell bell)
    {
        lock (_gate)
        {
            if (!_bells.Remove(bell))
                return;
            _ = Assign(bell, Kvm.IoeventfdDeassign);
            // The thread may be in poll with this descriptor; it looks at the list anew before it reads any.
            LinuxCalls.Raise(_wake);
            _ = LinuxCalls.Close(bell.Fd);
        }
    }

    private void Wait()
    {
        PollDescriptor[] waiting = [];
        while (true)
        {
            lock (_gate)
            {
                if (_stop)
                    return;
                _ = LinuxCalls.TryTake(_wake);
                waiting = [new PollDescriptor { Fd = _wake, Events = LinuxCalls.PollIn }, .. _bells.Select(b => new PollDescriptor { Fd = b.Fd, Events = LinuxCalls.PollIn })];
            }

            int result;
            fixed (PollDescriptor* first = waiting)
                result = LinuxCalls.Poll(first, (nuint)waiting.Length, -1);
            if (result > 0)
                Drain();
            else if (Marshal.GetLastPInvokeError() != LinuxCalls.EINTR)
                Thread.Sleep(1); // The host has no memory for it now.
        }
    }

    private sealed class Bell(KvmDoorbells owner, int fd, ulong address, int size, ulong? value, Action rung) : IDisposable
    {
        public int Fd { get; } = fd;

        public ulong Address { get; } = address;

        public int Size { get; } = size;

        public ulong? Value { get; } = value;

        public Action Rung { get; } = rung;

        public void Dispose() => owner.Remove(this);
    }
}
