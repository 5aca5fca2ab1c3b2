using System.Diagnostics;
using VirtPS.Client;
using VirtPS.Client.Processes;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Worker.Tests;

/// <summary>The built worker with the built plugins and the embedded guest. Needs the module's layout, which building the shell makes.</summary>
public class EngineTests(ITestOutputHelper output)
{
    private static readonly TimeSpan Soon = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task The_embedded_guest_runs_is_looked_into_and_stops()
    {
        string? module = ModuleLocator.Find(new VirtHostOptions());
        Assert.SkipWhen(module is null || !File.Exists(Path.Combine(module, "worker", "virtps-worker.dll")), "The module has not been laid out (build src/Shell).");
        string folder = Directory.CreateTempSubdirectory("virtps-test-").FullName;
        VirtHost host = VirtHost.Connect(new VirtHostOptions { StorePath = folder });
        VirtualMachine vm = await host.CreateAsync(new VmSpecification { Name = "ringlab", Memory = 64 << 20 });
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
            Directory.Delete(folder, recursive: true);
        }
    }

    private static long WorkingSet(int pid)
    {
        using var process = Process.GetProcessById(pid);
        return process.WorkingSet64;
    }
}
