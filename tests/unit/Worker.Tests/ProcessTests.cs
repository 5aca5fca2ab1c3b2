using System.Diagnostics;
using VirtPS.Client;
using VirtPS.Sdk.Machine;

namespace VirtPS.Worker.Tests;

/// <summary>The worker as a process: what it keeps of its starter (nothing), and that it outlives it.</summary>
public class ProcessTests
{
    [Fact]
    public async Task The_worker_holds_no_descriptor_of_its_starter_and_leads_its_own_session()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        string process = $"/proc/{vm.WorkerProcessId}";
        Assert.Equal("/dev/null", new FileInfo($"{process}/fd/0").LinkTarget);
        string log = Path.Combine(vm.Path, "worker.log");
        Assert.Equal(log, new FileInfo($"{process}/fd/1").LinkTarget);
        Assert.Equal(log, new FileInfo($"{process}/fd/2").LinkTarget);
        var ours = new HashSet<string>(Directory.GetFileSystemEntries("/proc/self/fd").Select(f => new FileInfo(f).LinkTarget ?? "").Where(t => t.StartsWith("pipe:", StringComparison.Ordinal) || t.StartsWith("socket:", StringComparison.Ordinal)));
        Assert.DoesNotContain(Directory.GetFileSystemEntries($"{process}/fd"), f => ours.Contains(new FileInfo(f).LinkTarget ?? ""));
        string[] stat = File.ReadAllText($"{process}/stat").Split(") ")[1].Split(' ');
        Assert.Equal(vm.WorkerProcessId.ToString(), stat[3]);
    }

    [Fact]
    public async Task A_shell_that_starts_a_vm_and_ends_leaves_it_running_and_closes_its_pipes()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        // Descriptor 9 is a leak into the starter, as of a careless parent: the worker must not keep it open. Reading both pipes to their ends proves it.
        string starter = string.Join(' ', TestStore.WorkerCommand.Append("--vm").Append(vm.Id.ToString()).Append("--store").Append(store.Host.StorePath).Append("--plugin-registry").Append("none").Select(a => $"'{a}'"));
        var start = new ProcessStartInfo("/bin/sh", ["-c", $"exec 9>&1; {starter} & sleep 0.1"]) { RedirectStandardOutput = true, RedirectStandardError = true };
        using Process shell = Process.Start(start)!;
        Task<string> output = shell.StandardOutput.ReadToEndAsync();
        Task<string> errors = shell.StandardError.ReadToEndAsync();
        await Task.WhenAll(output, errors).WaitAsync(TimeSpan.FromSeconds(15));
        await shell.WaitForExitAsync();
        Assert.Contains("\"state\":\"Running\"", await output);
        Assert.Equal(VmState.Running, (await store.Host.GetAsync(vm.Id)).State);
    }

    [Fact]
    public async Task After_the_end_no_process_socket_or_lock_is_left()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        string socket = Client.Store.StorePaths.SocketFor(vm.RunId!.Value);
        Assert.True(File.Exists(socket));
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        using var gone = new CancellationTokenSource(TimeSpan.FromSeconds(5));
        while (Client.Platform.HostIdentity.GetProcessStartTime(vm.WorkerProcessId!.Value) is not null)
            await Task.Delay(10, gone.Token);
        Assert.False(File.Exists(socket));
        Assert.False(Client.Store.FileLock.IsHeld(Path.Combine(vm.Path, "lock")));
    }

    [Fact]
    public async Task A_killed_workers_socket_is_removed_by_whoever_looks()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        Process.GetProcessById(vm.WorkerProcessId!.Value).Kill();
        using var patience = new CancellationTokenSource(TimeSpan.FromSeconds(5));
        while ((await store.Host.GetAsync(vm.Id, patience.Token)).State != VmState.Crashed)
            await Task.Delay(10, patience.Token);
        Assert.False(File.Exists(Client.Store.StorePaths.SocketFor(vm.RunId!.Value)));
    }

    [Fact]
    public async Task Probing_is_asked_of_a_short_lived_worker()
    {
        await using var store = new TestStore();
        VirtStrategy strategy = Assert.Single(await store.Host.GetStrategiesAsync());
        Assert.Equal(("Full", true, "It is a stand-in."), (strategy.Name, strategy.IsSupported, strategy.Reason));
    }

    [Fact]
    public void Wrong_arguments_are_said()
    {
        Assert.Equal(2, WorkerProgram.Run(["--nonsense"], new StandInMachineFactory()));
    }
}
