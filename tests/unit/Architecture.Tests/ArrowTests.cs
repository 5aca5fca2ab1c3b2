namespace VirtPS.Architecture.Tests;

/// <summary>Who may know whom: the table of docs/ARCHITECTURE.md §3.</summary>
public class ArrowTests
{
    private static readonly Dictionary<string, (string[] Projects, string[] Packages)> s_allowed = new()
    {
        ["VirtPS.X86"] = ([], []),
        ["VirtPS.Sdk"] = (["VirtPS.X86"], []),
        ["VirtPS.Client"] = (["VirtPS.Sdk"], ["StreamJsonRpc", "Newtonsoft.Json", "SharpCompress"]),
        ["VirtPS.Sdk.Testing"] = (["VirtPS.Sdk"], []),
        ["VirtPS.Engine"] = (["VirtPS.Sdk"], ["McMaster.NETCore.Plugins", "Newtonsoft.Json", "SharpCompress", "K4os.Compression.LZ4"]),
        ["VirtPS.Emulation"] = (["VirtPS.Sdk", "VirtPS.X86"], ["Iced", "System.IO.Hashing"]),
        ["VirtPS.Guests"] = (["VirtPS.X86"], ["Iced"]),
        // Beyond the engine: the emulation and Iced, which plugins share with their host; the client, for the protocol's types and the store's file formats.
        ["virtps-worker"] = (["VirtPS.Engine", "VirtPS.Guests", "VirtPS.Emulation", "VirtPS.Client"], ["StreamJsonRpc", "Newtonsoft.Json", "Iced"]),
        ["VirtPS"] = (["VirtPS.Sdk", "VirtPS.Client"], ["PowerShellStandard.Library"]),
        ["VirtPS.Shell"] = ([], ["System.Management.Automation"]),
    };

    public static TheoryData<string> Projects => [.. Repository.Shipped.Select(p => p.Path)];

    [Theory]
    [MemberData(nameof(Projects))]
    public void A_project_knows_only_what_it_may(string path)
    {
        Project project = Repository.Shipped.Single(p => p.Path == path);
        (string[] projects, string[] packages) = Allowed(project);
        Assert.Empty(project.Projects.Select(AssemblyOf).Except(projects));
        Assert.Empty(project.Packages.Except(packages));
    }

    [Fact]
    public void Every_project_of_the_table_that_exists_is_checked_by_its_own_row()
    {
        string[] unknown = [.. Repository.Shipped.Where(p => p.Path.StartsWith("src/", StringComparison.Ordinal) && !s_allowed.ContainsKey(p.AssemblyName)).Select(p => p.Path)];
        Assert.Empty(unknown);
    }

    [Fact]
    public void Every_plugin_project_has_a_manifest_that_names_its_assembly()
    {
        foreach (Project plugin in Repository.Plugins)
        {
            string manifest = Path.Combine(Repository.Root, Path.GetDirectoryName(plugin.Path)!, "plugin.json");
            Assert.True(File.Exists(manifest), $"{plugin.Path} has no plugin.json.");
            Assert.Contains($"\"{plugin.AssemblyName}.dll\"", File.ReadAllText(manifest));
        }
    }

    [Fact]
    public void Versions_stand_in_one_place()
    {
        foreach (Project project in Repository.Shipped)
            Assert.DoesNotContain(" Version=", File.ReadAllText(Path.Combine(Repository.Root, project.Path)).Replace("<?xml version=", "", StringComparison.Ordinal));
    }

    private static (string[] Projects, string[] Packages) Allowed(Project project)
    {
        // Plugins get the Sdk from plugins/Directory.Build.props; Full and Para stand on the software CPU.
        if (project.Path.StartsWith("plugins/strategies/Full/", StringComparison.Ordinal) || project.Path.StartsWith("plugins/strategies/Para/", StringComparison.Ordinal))
            return (["VirtPS.Sdk", "VirtPS.X86", "VirtPS.Emulation"], ["Iced"]);
        if (project.Path.StartsWith("plugins/", StringComparison.Ordinal))
            return (["VirtPS.Sdk", "VirtPS.X86"], []);
        return s_allowed.TryGetValue(project.AssemblyName, out (string[], string[]) row) ? row : ([], []);
    }

    private static string AssemblyOf(string projectName) => Repository.Shipped.FirstOrDefault(p => p.Name == projectName)?.AssemblyName ?? projectName;
}
