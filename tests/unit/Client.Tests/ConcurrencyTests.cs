using System.Diagnostics;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

public class ConcurrencyTests
{
    [Fact]
    public async Task Six_processes_on_one_store_share_out_names_and_damage_nothing()
    {
        using var store = new TestStore();
        VirtualMachine shared = await store.CreateAsync("shared 0");
        Process[] shells = [.. Enumerable.Range(0, 6).Select(i => Child.Start("shell", store.StorePath, store.Module, shared.Id.ToString(), i.ToString()))];
        string[] results = await Task.WhenAll(shells.Select(s => s.StandardOutput.ReadToEndAsync())).WaitAsync(TimeSpan.FromSeconds(60));
        Assert.Equal(4, results.Sum(r => int.Parse(r)));
        VmQueryResult all = await store.Host.GetAsync();
        Assert.Empty(all.Errors);
        Assert.Equal(5, all.Machines.Count);
        Assert.Equal(5, all.Machines.Select(m => m.Name).Distinct().Count());
    }

    [Fact]
    public async Task Of_ten_threads_that_create_one_name_one_wins()
    {
        using var store = new TestStore();
        Task<VirtualMachine>[] creations = [.. Enumerable.Range(0, 10).Select(_ => Task.Run(() => store.CreateAsync("one")))];
        await Task.WhenAll(creations.Select(c => c.ContinueWith(_ => { }, TaskScheduler.Default)));
        int winners = creations.Count(c => c.IsCompletedSuccessfully);
        Assert.Equal(1, winners);
        foreach (Task<VirtualMachine> lost in creations.Where(c => c.IsFaulted))
            Assert.Equal(ErrorIds.VMNameInUse, Assert.IsType<VirtException>(lost.Exception!.InnerException).ErrorId);
    }

    [Fact]
    public async Task A_lock_is_seen_from_outside_without_being_taken_and_dies_with_its_holder()
    {
        using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        string path = Path.Combine(vm.Path, "lock");
        Assert.False(FileLock.IsHeld(path));
        using Process holder = Child.Start("hold", path);
        Assert.Equal("held", await holder.StandardOutput.ReadLineAsync());
        Assert.True(FileLock.IsHeld(path));
        Assert.Null(FileLock.TryAcquire(path));
        holder.Kill();
        await holder.WaitForExitAsync();
        Assert.False(FileLock.IsHeld(path));
        using FileLock? taken = FileLock.TryAcquire(path);
        Assert.NotNull(taken);
    }

    [Fact]
    public async Task A_vm_whose_lock_is_held_by_something_else_is_busy_not_lost()
    {
        using var store = new TestStore();
        VirtualMachine vm = await store.CreateAsync();
        using Process holder = Child.Start("hold", Path.Combine(vm.Path, "lock"));
        Assert.Equal("held", await holder.StandardOutput.ReadLineAsync());
        Assert.Equal(VmState.Off, (await store.Host.GetAsync(vm.Id)).State);
        Assert.Equal(ErrorIds.VMBusy, (await Assert.ThrowsAsync<VirtException>(() => store.Host.RemoveAsync(vm.Id))).ErrorId);
        holder.StandardInput.Close();
        await holder.WaitForExitAsync();
        await store.Host.RemoveAsync(vm.Id);
    }
}
