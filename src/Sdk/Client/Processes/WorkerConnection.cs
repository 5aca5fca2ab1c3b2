using System.Net.Sockets;
using StreamJsonRpc;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;

namespace VirtPS.Client.Processes;

/// <summary>Talks to the worker of one run.</summary>
internal static class WorkerConnection
{
    /// <summary>A healthy worker answers the handshake within milliseconds; this is for a host under heavy load.</summary>
    private static readonly TimeSpan HandshakeTimeout = TimeSpan.FromSeconds(5);

    /// <summary>Opens a channel. Errors: WorkerGone when nobody listens, WorkerNotResponding when nobody answers, ProtocolMismatch, AccessDenied.</summary>
    public static async Task<(Stream Stream, HelloReply Reply)> OpenAsync(RunRecord run, HelloRequest request, CancellationToken cancellation)
    {
        using var timeout = CancellationTokenSource.CreateLinkedTokenSource(cancellation);
        timeout.CancelAfter(HandshakeTimeout);
        Stream? stream = null;
        try
        {
            stream = await Transport.ConnectAsync(run.Socket, timeout.Token).ConfigureAwait(false);
            HelloReply reply = await Handshake.ConnectAsync(stream, request, timeout.Token).ConfigureAwait(false);
            Stream result = stream;
            stream = null;
            return (result, reply);
        }
        catch (OperationCanceledException e) when (!cancellation.IsCancellationRequested)
        {
            throw new VirtException(ErrorIds.WorkerNotResponding, $"The VM's worker (process {run.WorkerProcessId}) does not answer.", "Try again; if it stays so, end that process: the VM is then Crashed and can be started anew.", run.WorkerProcessId, e);
        }
        catch (Exception e) when (e is IOException or SocketException)
        {
            throw Gone(run, e);
        }
        finally
        {
            if (stream is not null)
                await stream.DisposeAsync().ConfigureAwait(false);
        }
    }

    /// <summary>Calls one method. A <see cref="VirtException"/> of the worker arrives as such.</summary>
    public static async Task<T> InvokeAsync<T>(Guid vmId, RunRecord run, string method, IReadOnlyList<object?> arguments, CancellationToken cancellation)
    {
        (Stream stream, _) = await OpenAsync(run, new HelloRequest { Channel = Channel.Rpc, VMId = vmId }, cancellation).ConfigureAwait(false);
        using JsonRpc rpc = RpcSetup.Create(stream);
        rpc.StartListening();
        try
        {
            return await rpc.InvokeWithCancellationAsync<T>(method, arguments, cancellation).ConfigureAwait(false);
        }
        catch (RemoteMethodNotFoundException e)
        {
            throw new VirtException(ErrorIds.ProtocolMismatch, $"The VM's worker does not know '{method}': it is of another version of VirtPS.", "Turn the VM off and start it anew to have it run by this version.", method, e);
        }
        catch (RemoteInvocationException e) when (e.DeserializedErrorData is WireError error)
        {
            throw error.ToException(e);
        }
        catch (RemoteInvocationException e)
        {
            throw new VirtException(ErrorIds.WorkerFailed, $"The VM's worker could not do '{method}': {e.Message}", "See the VM's worker.log.", method, e);
        }
        catch (Exception e) when (e is ConnectionLostException or IOException or ObjectDisposedException)
        {
            throw Gone(run, e);
        }
    }

    private static VirtException Gone(RunRecord run, Exception inner) =>
        new(ErrorIds.WorkerGone, $"The VM's worker (process {run.WorkerProcessId}) is gone.", "Get-VirtVM says what became of the VM.", run.WorkerProcessId, inner);
}
