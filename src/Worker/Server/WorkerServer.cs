using System.Net.Sockets;
using VirtPS.Client;
using VirtPS.Client.Platform;
using VirtPS.Client.Protocol;
using VirtPS.Sdk;
using VirtPS.Worker.Hosting;

namespace VirtPS.Worker.Server;

/// <summary>
/// Answers the VM's socket: checks who asks, shakes hands, and gives each connection to what its channel is for. Connections are independent; none can
/// hold up another, or the machine.
/// </summary>
internal sealed class WorkerServer : IDisposable
{
    private static readonly TimeSpan HelloTimeout = TimeSpan.FromSeconds(5);

    /// <summary>What this worker can do beyond the protocol's version.</summary>
    private static readonly string[] Features = ["console", "rings", "registers", "memory", "disassembly"];

    private readonly VmRun _run;
    private readonly Listener _listener;
    private readonly CancellationTokenSource _stop = new();
    private readonly Lock _gate = new();
    private readonly HashSet<Task> _connections = [];
    private readonly WorkerRpc _rpc;

    public WorkerServer(VmRun run)
    {
        _run = run;
        _rpc = new WorkerRpc(run);
        _listener = Listener.Create(run.Socket);
        _ = AcceptAsync();
    }

    /// <summary>Waits until the connections have ended by themselves, because the machine has: at most so long.</summary>
    public void Drain(TimeSpan patience)
    {
        Task[] open;
        lock (_gate)
            open = [.. _connections];
        Task.WaitAny(Task.WhenAll(open), Task.Delay(patience));
    }

    public void Dispose()
    {
        _stop.Cancel();
        _listener.Dispose();
    }

    private async Task AcceptAsync()
    {
        while (!_stop.IsCancellationRequested)
        {
            Stream connection;
            try
            {
                connection = await _listener.AcceptAsync(_stop.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is OperationCanceledException or ObjectDisposedException)
            {
                return;
            }
            catch (Exception e) when (e is IOException or SocketException or VirtException)
            {
                _run.Log.Write(LogLevel.Warning, $"A connection was refused: {e.Message}");
                // Out of descriptors, perhaps: do not spin.
                await Task.Delay(100, _stop.Token).ContinueWith(_ => { }, TaskScheduler.Default).ConfigureAwait(false);
                continue;
            }

            Track(Task.Run(() => ServeAsync(connection)));
        }
    }

    private void Track(Task connection)
    {
        lock (_gate)
            _connections.Add(connection);
        _ = connection.ContinueWith(
            done =>
            {
                lock (_gate)
                    _connections.Remove(done);
            },
            TaskScheduler.Default);
    }

    private async Task ServeAsync(Stream connection)
    {
        await using (connection.ConfigureAwait(false))
        {
            try
            {
                using var limit = CancellationTokenSource.CreateLinkedTokenSource(_stop.Token);
                limit.CancelAfter(HelloTimeout);
                if (await Handshake.ReceiveAsync(connection, HandshakeJson.ReadRequest, limit.Token).ConfigureAwait(false) is not { } hello)
                    return;
                HelloReply reply = Answer(hello);
                await Handshake.SendAsync(connection, HandshakeJson.Write(reply), limit.Token).ConfigureAwait(false);
                if (reply.Error is null)
                    await ServeAsync(connection, hello).ConfigureAwait(false);
            }
            catch (Exception e) when (e is IOException or SocketException or OperationCanceledException or ObjectDisposedException)
            {
                // The other side went away, as it may at any time; or we end.
            }
            catch (VirtException e)
            {
                _run.Log.Write(LogLevel.Warning, $"A connection ended: {e.Message}");
            }
        }
    }

    private HelloReply Answer(HelloRequest hello)
    {
        var reply = new HelloReply { Version = VirtHost.BuildVersion, Features = Features, VMId = _run.Id };
        try
        {
            ProtocolVersion.Negotiate(hello.OldestProtocol, hello.Protocol, "The shell");
            if (hello.VMId != _run.Id)
                throw new VirtException(ErrorIds.WorkerGone, $"This socket belongs to VM {_run.Id}.");
            if (hello.Channel == Channel.Rings && _run.Trace is null)
                throw new VirtException(ErrorIds.InvalidVMState, $"VM '{_run.Configuration.Name}' is Starting: it cannot be traced yet.", "Try again.");
            return hello.Channel switch
            {
                Channel.Status => reply with { Status = _run.GetStatus() },
                Channel.Rings => reply with { RingFidelity = _run.Machine!.RingFidelity, HypercallNames = _run.Machine.HypercallNames },
                _ => reply,
            };
        }
        catch (VirtException e)
        {
            return reply with { Error = WireError.From(e) };
        }
    }

    private Task ServeAsync(Stream connection, HelloRequest hello) => hello.Channel switch
    {
        Channel.Rpc => _rpc.ServeAsync(connection, _stop.Token),
        Channel.Console => ConsoleChannel.ServeAsync(connection, _run.Console, hello, _stop.Token),
        Channel.Rings => RingChannel.ServeAsync(connection, _run.Trace!, hello, _stop.Token),
        _ => Task.CompletedTask,
    };
}
