using System.Xml.Linq;

namespace VirtPS.Architecture.Tests;

/// <summary>The module is compiled against a stub of PowerShell, which must never lie beside it.</summary>
public class PackagingTests
{
    [Fact]
    public void The_stub_is_referenced_for_compilation_only()
    {
        foreach (Project project in Repository.Shipped.Where(p => p.Packages.Contains("PowerShellStandard.Library")))
        {
            XElement reference = XElement.Load(Path.Combine(Repository.Root, project.Path)).Descendants("PackageReference").Single(r => (string?)r.Attribute("Include") == "PowerShellStandard.Library");
            string excluded = (string?)reference.Attribute("ExcludeAssets") ?? reference.Element("ExcludeAssets")?.Value ?? "";
            Assert.Contains("runtime", excluded);
        }
    }

    [Fact]
    public void No_module_folder_has_a_System_Management_Automation()
    {
        IEnumerable<string> folders = [Path.Combine(Repository.Root, "src", "VirtPS", "bin"), Path.Combine(Repository.Root, "artifacts", "module"), Path.Combine(Repository.Root, "artifacts", "package", "VirtPS")];
        foreach (string folder in folders.Where(Directory.Exists))
            Assert.Empty(Directory.EnumerateFiles(folder, "System.Management.Automation.dll", SearchOption.AllDirectories));
    }

    [Fact]
    public void No_plugin_folder_has_a_copy_of_a_shared_assembly()
    {
        string[] shared = ["VirtPS.Sdk.dll", "VirtPS.X86.dll", "VirtPS.Engine.dll"];
        foreach (Project plugin in Repository.Plugins)
        {
            string output = Path.Combine(Repository.Root, Path.GetDirectoryName(plugin.Path)!, "bin", "Release", "net10.0");
            if (Directory.Exists(output))
                Assert.Empty(Directory.EnumerateFiles(output, "*.dll").Select(f => Path.GetFileName(f)!).Intersect(shared));
        }
    }
}
