using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

/// <summary>A store and a module of their own, removed on disposal. The module's plugins are manifests only.</summary>
internal sealed class TestStore : IDisposable
{
    public TestStore(string? storePath = null)
    {
        Folder = Directory.CreateTempSubdirectory("virtps-test-").FullName;
        Module = Path.Combine(Folder, "module");
        AddPlugin("standin", """
            { "id": "standin", "version": "0.1.0", "kind": "strategy,device", "assembly": "standin.dll", "sdk": "[0.1,)",
              "strategies": [ { "name": "Full", "description": "A stand-in." }, { "name": "Other", "description": "Another." } ],
              "models": [ { "id": "port", "description": "A port.", "properties": [
                { "name": "number", "type": "int", "required": true }, { "name": "speed", "type": "string", "values": ["slow", "fast"] } ] } ] }
            """);
        StorePath = storePath ?? Path.Combine(Folder, "store");
        Host = VirtHost.Connect(new VirtHostOptions { StorePath = StorePath, ModulePath = Module });
    }

    public string Folder { get; }

    public string Module { get; }

    public string StorePath { get; }

    public VirtHost Host { get; }

    public void AddPlugin(string folder, string manifest)
    {
        string path = Path.Combine(Module, "plugins", folder);
        Directory.CreateDirectory(path);
        File.WriteAllText(Path.Combine(path, "plugin.json"), manifest);
    }

    public Task<VirtualMachine> CreateAsync(string name = "vm") => Host.CreateAsync(new VmSpecification { Name = name, Memory = 1 << 20 });

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
