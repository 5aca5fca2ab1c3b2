using System.Diagnostics;
using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Worker.Tests;

public class LifeTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task Starts_reports_and_turns_off()
    {
        await using var store = new TestStore();
        VirtualMachine created = await store.CreateAsync();
        Assert.Equal(VmState.Off, created.State);
        Assert.Null(created.WorkerProcessId);

        VirtualMachine running = await store.Host.StartAsync(created.Id);
        Assert.Equal(VmState.Running, running.State);
        Assert.Equal("StandIn", running.EngineTier);
        Assert.Equal(64u << 20, running.MemoryAssigned);
        Assert.Equal("3", running.Ring);
        Assert.NotEqual(Environment.ProcessId, running.WorkerProcessId);

        VirtualMachine off = await store.Host.StopAsync(created.Id, StopKind.TurnOff);
        Assert.Equal(VmState.Off, off.State);
        Assert.Equal("Turned off.", off.StatusReason);
        Assert.Null(off.WorkerProcessId);
        await store.Host.RemoveAsync(created.Id);
        Assert.Empty((await store.Host.GetAsync()).Machines);
    }

    [Fact]
    public async Task A_killed_worker_leaves_Crashed_with_a_reason_and_the_vm_starts_again()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        using (var worker = Process.GetProcessById(vm.WorkerProcessId!.Value))
        {
            worker.Kill();
            await worker.WaitForExitAsync();
        }

        VirtualMachine crashed = await store.Host.GetAsync(vm.Id);
        Assert.Equal(VmState.Crashed, crashed.State);
        Assert.Contains(vm.WorkerProcessId.Value.ToString(), crashed.StatusReason);
        Assert.Null(crashed.WorkerProcessId);

        VirtualMachine again = await store.Host.StartAsync(vm.Id);
        Assert.Equal(VmState.Running, again.State);
        Assert.NotEqual(vm.RunId, again.RunId);
    }

    [Fact]
    public async Task A_defect_in_the_worker_is_Crashed_with_what_went_wrong()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("die");
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Off), Soon));
        Assert.Equal(ErrorIds.WaitEnded, e.ErrorId);
        VirtualMachine crashed = await store.Host.GetAsync(vm.Id);
        Assert.Equal(VmState.Crashed, crashed.State);
        Assert.Contains("A defect.", crashed.StatusReason);
        Assert.Contains("A defect.", File.ReadAllText(Path.Combine(crashed.Path, "worker.log")));
        Assert.False(File.Exists(Client.Store.StorePaths.SocketFor(crashed.RunId!.Value)));
        VirtualMachine cleared = await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.Equal(VmState.Off, cleared.State);
    }

    [Fact]
    public async Task What_the_machine_refuses_comes_back_from_start_and_nothing_runs()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync("refuse");
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.StartAsync(vm.Id));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Equal("Take another.", e.RecommendedAction);
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Off), Soon);
        VirtualMachine off = await store.Host.GetAsync(vm.Id);
        Assert.Equal(VmState.Off, off.State);
        Assert.Contains("offset 3", off.StatusReason);
    }

    [Fact]
    public async Task A_guest_that_ends_itself_is_Off_with_its_exit_code()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("exit=7");
        VirtWaitResult ended = await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Off), Soon);
        Assert.Equal(VmState.Off, ended.VM.State);
        Assert.Equal(7, ended.VM.ExitCode);
    }

    [Fact]
    public async Task The_power_button_stops_a_guest_that_listens()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        VirtualMachine off = await store.Host.StopAsync(vm.Id, StopKind.PowerButton, Soon);
        Assert.Equal(VmState.Off, off.State);
        Assert.Contains("power button", off.StatusReason);
    }

    [Fact]
    public async Task A_guest_that_ignores_its_power_button_is_left_running()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("deaf");
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.StopAsync(vm.Id, StopKind.PowerButton, TimeSpan.FromMilliseconds(500)));
        Assert.Equal(ErrorIds.GuestDidNotStop, e.ErrorId);
        Assert.Equal(VmState.Running, (await store.Host.GetAsync(vm.Id)).State);
    }

    [Fact]
    public async Task A_worker_that_hangs_is_ended_by_turning_off()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        Assert.Equal(0, Posix.Kill(vm.WorkerProcessId!.Value, Posix.SIGSTOP));
        VirtualMachine off = await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.Equal(VmState.Off, off.State);
        Assert.Contains("did not answer", off.StatusReason);
        Assert.False(File.Exists(Client.Store.StorePaths.SocketFor(off.RunId!.Value)));
    }

    [Fact]
    public async Task SIGTERM_turns_the_machine_off_cleanly()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        Assert.Equal(0, Posix.Kill(vm.WorkerProcessId!.Value, Posix.SIGTERM));
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Off), Soon);
        Assert.Contains("SIGTERM", (await store.Host.GetAsync(vm.Id)).StatusReason);
    }

    [Fact]
    public async Task Suspends_resumes_and_refuses_what_the_state_forbids()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        Assert.Equal(VmState.Paused, (await store.Host.SuspendAsync(vm.Id)).State);
        Assert.Equal(ErrorIds.InvalidVMState, (await Assert.ThrowsAsync<VirtException>(() => store.Host.SuspendAsync(vm.Id))).ErrorId);
        Assert.Equal(ErrorIds.InvalidVMState, (await Assert.ThrowsAsync<VirtException>(() => store.Host.StartAsync(vm.Id))).ErrorId);
        Assert.Equal(ErrorIds.InvalidVMState, (await Assert.ThrowsAsync<VirtException>(() => store.Host.RemoveAsync(vm.Id))).ErrorId);
        Assert.Equal(ErrorIds.InvalidVMState, (await Assert.ThrowsAsync<VirtException>(() => store.Host.SetAsync(vm.Id, new VmChanges { Memory = 1 << 20 }))).ErrorId);
        Assert.Equal(VmState.Running, (await store.Host.ResumeAsync(vm.Id)).State);
    }

    [Fact]
    public async Task Notes_and_name_change_while_it_runs_and_survive_its_end()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        await store.Host.SetAsync(vm.Id, new VmChanges { Notes = "noted" });
        Assert.Equal("other", (await store.Host.RenameAsync(vm.Id, "other")).Name);
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        VirtualMachine off = await store.Host.GetAsync(vm.Id);
        Assert.Equal(("other", "noted"), (off.Name, off.Notes));
    }

    [Fact]
    public async Task Of_six_starters_at_once_one_wins_and_the_others_are_told()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        Task<VirtualMachine>[] starts = [.. Enumerable.Range(0, 6).Select(_ => Task.Run(() => VirtHost.Connect(store.Options).StartAsync(vm.Id)))];
        await Task.WhenAll(starts.Select(s => s.ContinueWith(_ => { }, TaskScheduler.Default)));
        int winners = starts.Count(s => s.IsCompletedSuccessfully);
        Assert.Equal(1, winners);
        foreach (Task<VirtualMachine> lost in starts.Where(s => s.IsFaulted))
            Assert.Equal(ErrorIds.InvalidVMState, Assert.IsType<VirtException>(lost.Exception!.InnerException).ErrorId);
        Assert.Equal(VmState.Running, (await store.Host.GetAsync(vm.Id)).State);
    }
}
