using VirtPS.Sdk.Backends;
using VirtPS.Strategy.Para.EventChannels;

namespace VirtPS.Strategy.Para.Console;

/// <summary>
/// The guest's console, hvc0: struct xencons_interface (public/io/console.h). The guest's output ring has 2048 bytes, its input ring 1024; indices run free. The page is the guest's: every index
/// is checked. Under the device lock.
/// </summary>
internal sealed unsafe class ConsoleRing
{
    private const int InSize = 1024, OutSize = 2048, In = 0, Out = 1024, InCons = 3072, InProd = 3076, OutCons = 3080, OutProd = 3084;

    private readonly XenDomain _domain;
    private readonly ICharBackend _backend;
    private byte* _page;
    private BackendChannel? _channel;

    public ConsoleRing(XenDomain domain, ICharBackend backend)
    {
        (_domain, _backend) = (domain, backend);
        backend.InputAvailable = TakeInput;
    }

    /// <summary>At start of day: the guest's ring page, zeroed. Returns its event channel.</summary>
    public uint Connect(byte* page)
    {
        _page = page;
        _channel = _domain.Ports.CreateChannel(Serve);
        return _channel.Port;
    }

    /// <summary>CONSOLEIO_write: bytes past the ring.</summary>
    public void Write(ReadOnlySpan<byte> text) => _backend.Write(text);

    public void Dispose() => _backend.Dispose();

    private void Serve()
    {
        Drain();
        TakeInput();
    }

    private ref uint Index(int offset) => ref *(uint*)(_page + offset);

    private void Drain()
    {
        uint consumed = Index(OutCons), produced = Volatile.Read(ref Index(OutProd));
        // More than the ring holds: the guest has spoilt its own indices; go on from what it says.
        if (produced - consumed > OutSize)
            consumed = produced - OutSize;
        if (produced == consumed)
            return;
        while (consumed != produced)
        {
            uint at = consumed & (OutSize - 1);
            int n = (int)Math.Min(produced - consumed, OutSize - at);
            _backend.Write(new ReadOnlySpan<byte>(_page + Out + at, n));
            consumed += (uint)n;
        }

        Volatile.Write(ref Index(OutCons), consumed);
        _channel!.Notify();
    }

    private void TakeInput()
    {
        if (_page == null)
            return;
        uint consumed = Volatile.Read(ref Index(InCons)), produced = Index(InProd);
        if (produced - consumed > InSize)
            return;
        uint start = produced;
        while (produced - consumed < InSize)
        {
            uint at = produced & (InSize - 1);
            int room = (int)Math.Min(InSize - (produced - consumed), InSize - at);
            int n = _backend.Read(new Span<byte>(_page + In + at, room));
            if (n == 0)
                break;
            produced += (uint)n;
        }

        if (produced == start)
            return;
        Volatile.Write(ref Index(InProd), produced);
        _channel!.Notify();
    }
}
