using VirtPS.Client;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Worker.Tests;

/// <summary>A store of its own, with a module whose one strategy is a stand-in's, and workers that are this program. Turns off on disposal whatever still runs.</summary>
internal sealed class TestStore : IAsyncDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("virtps-test-").FullName;

    public TestStore()
    {
        string plugin = Path.Combine(_folder, "module", "plugins", "standin");
        Directory.CreateDirectory(plugin);
        File.WriteAllText(Path.Combine(plugin, "plugin.json"), """
            { "id": "standin", "version": "0.1.0", "kind": "strategy", "assembly": "standin.dll", "sdk": "[0.1,)", "strategies": [ { "name": "Full", "description": "A stand-in." } ],
              "models": [ { "id": "serial", "description": "A port.", "properties": [ { "name": "port", "type": "int" } ] } ] }
            """);
        Options = new VirtHostOptions { StorePath = Path.Combine(_folder, "store"), ModulePath = Path.Combine(_folder, "module"), WorkerCommand = WorkerCommand };
        Host = VirtHost.Connect(Options);
    }

    public static IReadOnlyList<string> WorkerCommand { get; } =
        Path.GetFileNameWithoutExtension(Environment.ProcessPath!) == "dotnet" ? [Environment.ProcessPath!, typeof(TestStore).Assembly.Location, "--worker"] : [Environment.ProcessPath!, "--worker"];

    public VirtHostOptions Options { get; }

    public VirtHost Host { get; }

    public string Folder => _folder;

    public Task<VirtualMachine> CreateAsync(string behaviour = "", string name = "vm") => Host.CreateAsync(new VmSpecification
    {
        Name = name,
        Memory = 64 << 20,
        Boot = new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = behaviour },
    });

    public async Task<VirtualMachine> StartAsync(string behaviour = "", string name = "vm") => await Host.StartAsync((await CreateAsync(behaviour, name)).Id);

    public async ValueTask DisposeAsync()
    {
        foreach (VirtualMachine vm in (await Host.GetAsync()).Machines.Where(m => m.WorkerProcessId is not null))
            await Host.StopAsync(vm.Id, StopKind.TurnOff);
        Directory.Delete(_folder, recursive: true);
    }
}
