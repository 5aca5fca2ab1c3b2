using System.Diagnostics;
using System.Text.Json.Nodes;
using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Inspection;
using VirtPS.X86;

namespace VirtPS.Worker.Tests;

public class InspectionTests
{
    [Fact]
    public async Task Rings_registers_memory_and_code_come_over_the_wire()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        RingState ring = Assert.Single(await store.Host.GetRingStatesAsync(vm.Id));
        Assert.Equal((3, "syscall", (ulong?)null), (ring.GuestRing, ring.Instruction, ring.Cr3));
        Assert.Equal(5ul, Assert.Single(await store.Host.MeasureRingAsync(vm.Id)).Transitions["Syscall"]);
        VirtRegisterSet registers = await store.Host.GetRegistersAsync(vm.Id);
        Assert.Equal(1ul, registers["rcx"]!.Value);
        Assert.Equal("LMA", registers["IA32_EFER"]!.Description);
        Assert.Equal(256, registers["YMM15"]!.Size);
        Assert.Equal((64, 0x3737_3737_3737_3737ul), (registers["K7"]!.Size, registers["K7"]!.Value));
        Assert.Equal((512, Places("57", "56", "33", "19")), (registers["ZMM15"]!.Size, registers["ZMM15"]!.Hex));
        Assert.Equal((512, Places("97", "96", "95", "94")), (registers["ZMM31"]!.Size, registers["ZMM31"]!.Hex));
        Assert.Equal(Places("95", "94"), registers["YMM31"]!.Hex);
        VirtGuestMemory memory = await store.Host.ReadGuestMemoryAsync(vm.Id, 0x10, 600_000);
        Assert.Equal(0x10 + 599_999 & 0xFF, memory.Bytes[599_999]);
        Assert.Equal(["nop", "nop"], (await store.Host.DisassembleAsync(vm.Id, null, 2)).Select(l => l.Instruction));
    }

    private static string Places(params string[] places) => string.Concat(places.SelectMany(p => Enumerable.Repeat(p, 16)));

    [Fact]
    public void Registers_of_AVX_512_are_shown_where_the_guest_has_enabled_it()
    {
        VirtRegisterSet without = RegisterList.Create(StandInMachine.Registers(0, Xcr0.X87 | Xcr0.Sse | Xcr0.Avx), Guid.Empty, "guest");
        Assert.NotNull(without["YMM15"]);
        Assert.All(["K0", "ZMM0", "ZMM31", "XMM16"], name => Assert.Null(without[name]));
    }

    [Fact]
    public async Task What_is_not_there_is_named()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync();
        VirtException memory = await Assert.ThrowsAsync<VirtException>(() => store.Host.ReadGuestMemoryAsync(vm.Id, (64 << 20) - 4096, 8192));
        Assert.Equal(ErrorIds.GuestAddressInvalid, memory.ErrorId);
        Assert.Contains("0x4000000", memory.Message);
        Assert.Equal(ErrorIds.VcpuNotFound, (await Assert.ThrowsAsync<VirtException>(() => store.Host.GetRegistersAsync(vm.Id, 4))).ErrorId);
        VirtException hot = await Assert.ThrowsAsync<VirtException>(() => store.Host.AddDeviceAsync(vm.Id, new JsonObject { ["model"] = "standin/serial" }));
        Assert.Equal(ErrorIds.InvalidVMState, hot.ErrorId);
        Assert.Equal(ErrorIds.DeviceModelNotFound, (await Assert.ThrowsAsync<VirtException>(() => store.Host.AddDeviceAsync(vm.Id, new JsonObject { ["model"] = "standin/x" }))).ErrorId);
        VirtVMDevice device = Assert.Single(await store.Host.GetDevicesAsync(vm.Id));
        Assert.True(device.IsPlatform);
    }

    /// <summary>Places by samples, without the halted ones; a kernel's code is read when all is counted, a program's is what was there when it was seen.</summary>
    [Fact]
    public async Task Samples_are_counted_by_place()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("spots");
        IReadOnlyList<HotSpot> spots = await store.Host.GetHotSpotsAsync(vm.Id, TimeSpan.FromSeconds(0.5), 10);
        Assert.Equal(2, spots.Count);
        (HotSpot kernel, HotSpot program) = (spots[0], spots[1]);
        Assert.Equal((0x2000ul, 0, (ulong?)null), (kernel.Address, kernel.Ring, kernel.Cr3));
        Assert.Equal((0x1000ul, 3, (ulong?)0x6000), (program.Address, program.Ring, program.Cr3));
        Assert.Equal(1, kernel.Share + program.Share, 9);
        Assert.Equal((double)kernel.Samples / (kernel.Samples + program.Samples), kernel.Share, 9);
        Assert.InRange(kernel.Share, 0.65, 0.85);
        Assert.InRange(kernel.HaltedSamples, 1, kernel.Samples);
        Assert.Equal(kernel.HaltedSamples, program.HaltedSamples);
        Assert.Equal(Enumerable.Repeat("nop", 16), kernel.Instructions.Select(i => i.Instruction));
        Assert.Equal("syscall", program.Instructions[0].Instruction);
        Assert.Equal(kernel, Assert.Single(await store.Host.GetHotSpotsAsync(vm.Id, TimeSpan.FromSeconds(0.2), 1)), (a, b) => a.Address == b.Address);
    }

    [Theory]
    [InlineData(0, 1)]
    [InlineData(-1, 1)]
    [InlineData(3601, 1)]
    [InlineData(1, 0)]
    [InlineData(1, 1001)]
    public async Task Samples_out_of_range_are_refused(double seconds, int first)
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("spots");
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.GetHotSpotsAsync(vm.Id, TimeSpan.FromSeconds(seconds), first));
        Assert.Equal(ErrorIds.ConfigurationInvalid, e.ErrorId);
    }

    [Fact]
    public async Task A_paused_machine_is_not_sampled()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("spots");
        await store.Host.SuspendAsync(vm.Id);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => store.Host.GetHotSpotsAsync(vm.Id, TimeSpan.FromSeconds(0.1), 1));
        Assert.Equal(ErrorIds.InvalidVMState, e.ErrorId);
    }

    [Fact]
    public async Task A_trace_carries_300000_events_a_second_in_order_without_loss()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("events=400000");
        long began = Stopwatch.GetTimestamp();
        ulong next = 0;
        await foreach (RingTransitionBatch batch in store.Host.TraceRingAsync(vm.Id, new Client.TraceOptions { MaxEvents = 600_000 }))
        {
            Assert.Equal(0ul, batch.Dropped);
            foreach (RingTransition t in batch.Transitions)
                Assert.Equal(next++, t.Detail);
        }

        Assert.Equal(600_000ul, next);
        double seconds = Stopwatch.GetElapsedTime(began).TotalSeconds;
        Assert.True(600_000 / seconds > 300_000, $"{600_000 / seconds:0} events a second");
    }

    [Fact]
    public async Task A_trace_ends_with_the_machine()
    {
        await using var store = new TestStore();
        VirtualMachine vm = await store.StartAsync("events=1000");
        Task<int> trace = Task.Run(async () =>
        {
            int n = 0;
            await foreach (RingTransitionBatch batch in store.Host.TraceRingAsync(vm.Id))
                n += batch.Transitions.Count;
            return n;
        });
        await Task.Delay(300);
        await store.Host.StopAsync(vm.Id, StopKind.TurnOff);
        Assert.True(await trace.WaitAsync(TimeSpan.FromSeconds(5)) > 0);
    }
}
