using System.Diagnostics;
using VirtPS.Client;
using VirtPS.Client.Processes;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Worker.Tests;

/// <summary>The built worker with the built plugins and the embedded guest. Needs the module's layout, which building the shell makes.</summary>
public class EngineTests(ITestOutputHelper output)
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    // Real-mode code at 0x7C00: interrupts off and a jump to itself; a byte to COM1 for ever; an IDT without entries and then INT3.
    private static readonly byte[] Spin = [0xFA, 0xEB, 0xFE];
    private static readonly byte[] Flood = [0xBA, 0xF8, 0x03, 0xB0, 0x78, 0xEE, 0xEB, 0xFD];
    private static readonly byte[] TripleFault = [0x0F, 0x01, 0x1E, 0x10, 0x7C, 0xCC, 0xEB, 0xFE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

    [Fact]
    public async Task A_guest_that_spins_with_interrupts_off_ignores_its_button_and_is_turned_off()
    {
        await using Guest guest = await Guest.StartAsync(Spin);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => guest.Host.StopAsync(guest.VM.Id, StopKind.PowerButton, TimeSpan.FromMilliseconds(300)));
        Assert.Equal(ErrorIds.GuestDidNotStop, e.ErrorId);
        Assert.Equal("0", (await guest.Host.GetAsync(guest.VM.Id)).Ring);
        Assert.Equal("jmp short 0x7c01", (await guest.Host.GetRingStatesAsync(guest.VM.Id))[0].Instruction, ignoreCase: true);
        Assert.Equal(VmState.Off, (await guest.Host.StopAsync(guest.VM.Id, StopKind.TurnOff)).State);
    }

    [Fact]
    public async Task A_guest_that_floods_its_console_is_looked_at_and_turned_off()
    {
        await using Guest guest = await Guest.StartAsync(Flood);
        await guest.Host.WaitAsync(guest.VM.Id, new WaitCondition(WaitTarget.Console) { Pattern = "x{1000}" }, Soon);
        Assert.Equal(VmState.Running, (await guest.Host.GetAsync(guest.VM.Id)).State);
        Assert.Equal(VmState.Off, (await guest.Host.StopAsync(guest.VM.Id, StopKind.TurnOff)).State);
        Assert.True(new FileInfo(Path.Combine(guest.VM.Path, "console.log")).Length <= 32 << 20);
    }

    [Fact]
    public async Task A_triple_fault_stops_the_vm_and_says_where()
    {
        await using Guest guest = await Guest.StartAsync(TripleFault);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => guest.Host.WaitAsync(guest.VM.Id, new WaitCondition(WaitTarget.Off), Soon));
        Assert.Contains("crashed", e.Message);
        VirtualMachine ended = await guest.Host.GetAsync(guest.VM.Id);
        Assert.Equal(VmState.Crashed, ended.State);
        Assert.Contains("riple fault", ended.StatusReason);
        Assert.Contains("code CCEBFE", ended.StatusReason);
    }

    [Fact]
    public async Task A_file_that_is_no_kernel_is_refused_with_its_name_and_nothing_runs()
    {
        await using Guest guest = await Guest.CreateAsync(new byte[5000], BootKind.Auto);
        VirtException e = await Assert.ThrowsAsync<VirtException>(() => guest.Host.StartAsync(guest.VM.Id));
        Assert.Equal(ErrorIds.ImageInvalid, e.ErrorId);
        Assert.Contains(guest.VM.Kernel!, e.Message);
        await guest.Host.WaitAsync(guest.VM.Id, new WaitCondition(WaitTarget.Off), Soon);
    }

    [Fact]
    public async Task The_embedded_guest_runs_is_looked_into_and_stops()
    {
        await using Guest guest = await Guest.CreateAsync(null, BootKind.Ringlab);
        (VirtHost host, VirtualMachine vm) = (guest.Host, guest.VM);
        try
        {
            long began = Stopwatch.GetTimestamp();
            vm = await host.StartAsync(vm.Id);
            output.WriteLine($"Start: {Stopwatch.GetElapsedTime(began).TotalMilliseconds:0} ms; {vm.State}, ring {vm.Ring}, {vm.EngineTier}");
            Assert.Equal(VmState.Running, vm.State);
            VirtWaitResult ring3 = await host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Console) { Pattern = "ring 3.*" }, Soon);
            output.WriteLine($"'{ring3.MatchedText}' after {ring3.Elapsed.TotalMilliseconds:0} ms");
            await host.WaitAsync(vm.Id, new WaitCondition(WaitTarget.Ring3), Soon);
            RingState state = Assert.Single(await host.GetRingStatesAsync(vm.Id));
            output.WriteLine(state.ToString());
            Assert.Equal(RingFidelity.Exact, state.Fidelity);
            RingMeasurement measured = Assert.Single(await host.MeasureRingAsync(vm.Id));
            Assert.True(measured.Instructions![3] > 0);
            output.WriteLine($"Resident: {WorkingSet(vm.WorkerProcessId!.Value) >> 20} MiB");
            await foreach (string line in host.ReadConsoleLinesAsync(vm.Id))
                output.WriteLine(line);
        }
        finally
        {
            await host.StopAsync(vm.Id, StopKind.TurnOff);
            output.WriteLine(File.ReadAllText(Path.Combine(vm.Path, "worker.log")));
        }
    }

    private static long WorkingSet(int pid)
    {
        using var process = Process.GetProcessById(pid);
        return process.WorkingSet64;
    }

    /// <summary>A VM in a store of its own, run by the built worker; gone on disposal.</summary>
    private sealed class Guest(string folder, VirtHost host, VirtualMachine vm) : IAsyncDisposable
    {
        public VirtHost Host => host;

        public VirtualMachine VM => vm;

        public static async Task<Guest> CreateAsync(byte[]? image, BootKind kind)
        {
            string? module = ModuleLocator.Find(new VirtHostOptions());
            Assert.SkipWhen(module is null || !File.Exists(Path.Combine(module, "worker", "virtps-worker.dll")), "The module has not been laid out (build src/Shell).");
            string folder = Directory.CreateTempSubdirectory("virtps-test-").FullName;
            string? kernel = null;
            if (image is not null)
            {
                if (kind == BootKind.BootSector)
                {
                    Array.Resize(ref image, 512);
                    (image[510], image[511]) = (0x55, 0xAA);
                }

                kernel = Path.Combine(folder, "image");
                File.WriteAllBytes(kernel, image);
            }

            VirtHost host = VirtHost.Connect(new VirtHostOptions { StorePath = Path.Combine(folder, "store") });
            return new Guest(folder, host, await host.CreateAsync(new VmSpecification { Name = "guest", Memory = 64 << 20, Boot = new BootConfiguration { Kind = kind, Kernel = kernel } }));
        }

        public static async Task<Guest> StartAsync(byte[] bootSector)
        {
            Guest guest = await CreateAsync(bootSector, BootKind.BootSector);
            await guest.Host.StartAsync(guest.VM.Id);
            return guest;
        }

        public async ValueTask DisposeAsync()
        {
            await host.StopAsync(vm.Id, StopKind.TurnOff);
            Directory.Delete(folder, recursive: true);
        }
    }
}
