using System.IO.Pipes;
using System.Net.Sockets;
using VirtPS.Client.Protocol;

namespace VirtPS.Worker.Server;

/// <summary>The listening end of a VM's endpoint: a unix socket, on Windows a named pipe (unproven).</summary>
internal abstract class Listener : IDisposable
{
    /// <summary>Listens from here on. The socket's folder must exist.</summary>
    public static Listener Create(string endpoint) => OperatingSystem.IsWindows() ? new PipeListener(endpoint) : new SocketListener(endpoint);

    /// <summary>The next connection, of this user's.</summary>
    public abstract Task<Stream> AcceptAsync(CancellationToken cancellation);

    public abstract void Dispose();

    private sealed class SocketListener : Listener
    {
        private readonly string _path;
        private readonly Socket _socket;

        public SocketListener(string path)
        {
            _path = path;
            _socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            // The name is this run's own: what is there is a leftover of a run that died, with a clash in 64 bits.
            File.Delete(path);
            _socket.Bind(new UnixDomainSocketEndPoint(path));
            _socket.Listen(64);
        }

        public override async Task<Stream> AcceptAsync(CancellationToken cancellation)
        {
            Socket connection = await _socket.AcceptAsync(cancellation).ConfigureAwait(false);
            try
            {
                Transport.CheckPeer(connection);
                return new NetworkStream(connection, ownsSocket: true);
            }
            catch
            {
                connection.Dispose();
                throw;
            }
        }

        public override void Dispose()
        {
            _socket.Dispose();
            File.Delete(_path);
        }
    }

    private sealed class PipeListener(string name) : Listener
    {
        private NamedPipeServerStream? _next = Open(name);

        public override async Task<Stream> AcceptAsync(CancellationToken cancellation)
        {
            NamedPipeServerStream pipe = _next ?? Open(name);
            await pipe.WaitForConnectionAsync(cancellation).ConfigureAwait(false);
            _next = Open(name);
            return pipe;
        }

        public override void Dispose() => _next?.Dispose();

        private static NamedPipeServerStream Open(string name) =>
            new(name, PipeDirection.InOut, NamedPipeServerStream.MaxAllowedServerInstances, PipeTransmissionMode.Byte, PipeOptions.Asynchronous | PipeOptions.CurrentUserOnly);
    }
}
