using System.Management.Automation;
using System.Reflection;
using System.Runtime.Loader;

namespace VirtPS.Infrastructure;

/// <summary>
/// Where VirtPS.Client and its packages live: apart from what pwsh itself or another module may have loaded in other versions. Contracts come
/// from the default context, so that scripts can name their types.
/// </summary>
internal sealed class ClientLoadContext(string folder) : AssemblyLoadContext("VirtPS.Client")
{
    private static readonly string[] Shared = ["VirtPS.Sdk", "VirtPS.X86", "System.Management.Automation"];

    protected override Assembly? Load(AssemblyName assemblyName)
    {
        if (assemblyName.Name is null || Shared.Contains(assemblyName.Name))
            return null;
        string path = Path.Combine(folder, assemblyName.Name + ".dll");
        return File.Exists(path) ? LoadFromAssemblyPath(path) : null;
    }
}

/// <summary>Runs when the module is imported and removed: answers the default context's question for VirtPS.Client.</summary>
public sealed class ModuleInitializer : IModuleAssemblyInitializer, IModuleAssemblyCleanup
{
    private static readonly ClientLoadContext Client = new(
        Path.Combine(Path.GetDirectoryName(typeof(ModuleInitializer).Assembly.Location)!, "client"));

    public void OnImport()
    {
        AssemblyLoadContext.Default.Resolving -= Resolve;
        AssemblyLoadContext.Default.Resolving += Resolve;
    }

    public void OnRemove(PSModuleInfo psModuleInfo) => AssemblyLoadContext.Default.Resolving -= Resolve;

    private static Assembly? Resolve(AssemblyLoadContext context, AssemblyName name) =>
        name.Name == "VirtPS.Client" ? Client.LoadFromAssemblyName(name) : null;
}
