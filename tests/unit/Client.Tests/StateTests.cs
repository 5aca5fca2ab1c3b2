using System.Net.Sockets;
using VirtPS.Client.Platform;
using VirtPS.Client.Processes;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

/// <summary>States derived from a store in which no worker runs.</summary>
public class StateTests
{
    [Fact]
    public async Task A_run_of_another_boot_that_never_ended_is_Off_HostRestarted()
    {
        using var store = new TestStore();
        VirtualMachine seen = await WithRunAsync(store, r => r with { BootId = "another boot" });
        Assert.Equal(VmState.Off, seen.State);
        Assert.StartsWith("HostRestarted", seen.StatusReason);
    }

    [Fact]
    public async Task A_run_of_this_boot_that_never_ended_is_Crashed_and_its_socket_is_cleaned()
    {
        using var store = new TestStore();
        Guid runId = Guid.NewGuid();
        string socket = StorePaths.SocketFor(runId);
        StorePaths.EnsureRuntimeFolder(socket);
        using (var dead = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified))
            dead.Bind(new UnixDomainSocketEndPoint(socket));
        if (!File.Exists(socket))
            File.WriteAllText(socket, "");
        VirtualMachine seen = await WithRunAsync(store, r => r with { RunId = runId, Socket = socket });
        Assert.Equal(VmState.Crashed, seen.State);
        Assert.Null(seen.WorkerProcessId);
        Assert.False(File.Exists(socket));
    }

    [Fact]
    public async Task A_process_id_of_somebody_else_is_not_a_worker()
    {
        using var store = new TestStore();
        // Our own process id, with a start time that is not ours.
        VirtualMachine seen = await WithRunAsync(store, r => r with { WorkerProcessId = Environment.ProcessId, WorkerStartTime = 1 });
        Assert.Equal(VmState.Crashed, seen.State);
    }

    [Fact]
    public async Task An_ended_run_says_how_it_ended()
    {
        using var store = new TestStore();
        VirtualMachine seen = await WithRunAsync(store, r => r with { EndedAt = DateTimeOffset.Now, EndState = VmState.Off, Reason = "The guest switched itself off.", ExitCode = 3 });
        Assert.Equal((VmState.Off, "The guest switched itself off.", 3), (seen.State, seen.StatusReason, seen.ExitCode));
    }

    [Fact]
    public void A_process_has_a_start_time_and_a_missing_one_has_none()
    {
        Assert.NotNull(HostIdentity.GetProcessStartTime(Environment.ProcessId));
        Assert.Null(HostIdentity.GetProcessStartTime(int.MaxValue));
        Assert.True(HostIdentity.IsThisBoot(HostIdentity.GetBootId()));
    }

    [Fact]
    public void A_missing_worker_is_said_with_the_places_that_were_looked_at()
    {
        string empty = Directory.CreateTempSubdirectory("virtps-test-").FullName;
        VirtException? e = null;
        try
        {
            WorkerLocator.Find(new VirtHostOptions { ModulePath = empty, WorkerCommand = null });
        }
        catch (VirtException found)
        {
            e = found;
        }

        Directory.Delete(empty);
        // In a source tree that has been built the worker is found all the same.
        Assert.True(e is null || (e.ErrorId == ErrorIds.WorkerNotFound && e.Message.Contains(empty)));
    }

    [Fact]
    public void Another_host_is_refused()
    {
        Assert.Equal(ErrorIds.HostNotSupported, Assert.Throws<VirtException>(() => VirtHost.Connect("some.other.host")).ErrorId);
        Assert.Equal(VirtHost.Connect().HostId, VirtHost.Connect("localhost").HostId);
    }

    private static async Task<VirtualMachine> WithRunAsync(TestStore store, Func<RunRecord, RunRecord> change)
    {
        VirtualMachine vm = await store.CreateAsync();
        var files = new VmStore(new StorePaths(store.StorePath));
        RunRecord run = change(new RunRecord
        {
            RunId = Guid.NewGuid(),
            BootId = HostIdentity.GetBootId(),
            StartedAt = DateTimeOffset.Now,
            WorkerProcessId = int.MaxValue,
            WorkerStartTime = 5,
            Socket = "/nowhere/at/all.sock",
        });
        using (FileLock? held = await files.LockAsync(vm.Id, TimeSpan.Zero, default))
            files.Save(files.Load(vm.Id).With(run), held!);
        return await store.Host.GetAsync(vm.Id);
    }
}
