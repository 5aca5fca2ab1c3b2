using System.Text;
using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Worker.Tests;

public class ConsoleTests
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(10);

    [Fact]
    public async Task Output_is_read_while_it_runs_and_afterwards()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("say=hello_world");
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Console) { Pattern = "hello w.rld$" }, Soon);
        Assert.Equal(["hello world"], await LinesAsync(store, vm.Id));
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.Equal(["hello world"], await LinesAsync(store, vm.Id));
        // Past output counts, also of a run that is over.
        Assert.Equal("hello", (await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Console) { Pattern = "h.*o(?= )" }, Soon)).MatchedText);
    }

    [Fact]
    public async Task What_is_typed_arrives_and_the_echo_comes_back()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        await store.Host.SendConsoleAsync(vm.Id, "typed\n"u8.ToArray());
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Console) { Pattern = "^typed$" }, Soon);
        await using Stream console = await store.Host.ConnectConsoleAsync(vm.Id);
        await console.WriteAsync("again"u8.ToArray());
        byte[] echo = new byte[5];
        await console.ReadExactlyAsync(echo).AsTask().WaitAsync(Soon);
        Assert.Equal("again", Encoding.ASCII.GetString(echo));
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.Equal(0, await console.ReadAsync(echo).AsTask().WaitAsync(Soon));
    }

    [Fact]
    public async Task A_follower_gets_everything_in_order_and_then_the_end()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("flood=8000000");
        Task<int> follower = Task.Run(async () =>
        {
            int lines = 0;
            await foreach (string line in store.Host.ReadConsoleLinesAsync(vm.Id, new ConsoleReadOptions { Follow = true }))
            {
                if (line == "FLOOD-END")
                    return lines;
                Assert.Equal(63, line.Length);
                lines++;
            }

            return -1;
        });
        Assert.Equal(8_000_000 / 64, await follower.WaitAsync(Soon));
    }

    [Fact]
    public async Task Waiting_for_what_does_not_come_times_out_and_a_stop_ends_the_wait()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        var never = new WaitCondition(WaitTarget.Console) { Pattern = "never" };
        Assert.Equal(ErrorIds.WaitTimeout, (await Assert.ThrowsAsync<VirtException>(() => store.Host.WaitAsync(vm.Id, never, TimeSpan.FromMilliseconds(300)))).ErrorId);
        Task<VirtWaitResult> wait = store.Host.WaitAsync(vm.Id, never, Soon);
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.Equal(ErrorIds.WaitEnded, (await Assert.ThrowsAsync<VirtException>(() => wait)).ErrorId);
    }

    [Fact]
    public async Task Ring_3_is_waited_for_and_remembered()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("ring3");
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Ring3), Soon);
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        await store.Host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Ring3), Soon);
    }

    private static async Task<List<string>> LinesAsync(TestStore store, Guid id)
    {
        var lines = new List<string>();
        await foreach (string line in store.Host.ReadConsoleLinesAsync(id))
            lines.Add(line);
        return lines;
    }
}
