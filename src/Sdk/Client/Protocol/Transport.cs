using System.IO.Pipes;
using System.Net.Sockets;
using VirtPS.Client.Platform;
using VirtPS.Sdk;

namespace VirtPS.Client.Protocol;

/// <summary>Connections between processes of one user on one host: a unix socket; on Windows a named pipe (unproven).</summary>
internal static class Transport
{
    /// <summary>Connects. Throws <see cref="IOException"/> or <see cref="SocketException"/> when nobody listens; AccessDenied when the listener is another user's.</summary>
    public static async Task<Stream> ConnectAsync(string endpoint, CancellationToken cancellation)
    {
        if (OperatingSystem.IsWindows())
        {
            var pipe = new NamedPipeClientStream(".", endpoint, PipeDirection.InOut, PipeOptions.Asynchronous | PipeOptions.CurrentUserOnly);
            await pipe.ConnectAsync(cancellation).ConfigureAwait(false);
            return pipe;
        }

        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            await socket.ConnectAsync(new UnixDomainSocketEndPoint(endpoint), cancellation).ConfigureAwait(false);
            CheckPeer(socket);
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Refuses the other end unless it runs as this user.</summary>
    public static void CheckPeer(Socket socket)
    {
        uint uid = Posix.PeerUserId(socket);
        if (uid != Posix.UserId)
            throw new VirtException(ErrorIds.AccessDenied, $"The process at the other end of the socket belongs to user {uid}.");
    }
}
