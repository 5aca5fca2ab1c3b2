using System.Reflection;
using System.Xml.Linq;

namespace VirtPS.Architecture.Tests;

/// <summary>One project file: what it may know.</summary>
/// <param name="Path">Relative to the repository, with forward slashes.</param>
internal sealed record Project(string Path, string AssemblyName, IReadOnlyList<string> Projects, IReadOnlyList<string> Packages)
{
    public string Name => System.IO.Path.GetFileNameWithoutExtension(Path);
}

internal static class Repository
{
    public static string Root { get; } = typeof(Repository).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "Repository").Value!;

    /// <summary>All projects that are shipped: those under src and plugins.</summary>
    public static IReadOnlyList<Project> Shipped { get; } = [.. Read("src"), .. Read("plugins")];

    public static IEnumerable<Project> Plugins => Shipped.Where(p => p.Path.StartsWith("plugins/", StringComparison.Ordinal));

    private static IEnumerable<Project> Read(string folder) =>
        Directory.EnumerateFiles(Path.Combine(Root, folder), "*.csproj", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(Read1);

    private static Project Read1(string file)
    {
        XElement xml = XElement.Load(file);
        string name = xml.Descendants("AssemblyName").FirstOrDefault()?.Value ?? Path.GetFileNameWithoutExtension(file);
        // A ProjectReference that only orders the build (ReferenceOutputAssembly=false) is no knowledge.
        IEnumerable<string> projects = xml.Descendants("ProjectReference")
            .Where(r => (string?)r.Attribute("ReferenceOutputAssembly") != "false" && r.Element("ReferenceOutputAssembly")?.Value != "false")
            .Select(r => Path.GetFileNameWithoutExtension(((string?)r.Attribute("Include") ?? "").Replace('\\', '/')))
            .Where(n => n.Length > 0);
        IEnumerable<string> packages = xml.Descendants("PackageReference").Select(r => (string?)r.Attribute("Include") ?? "").Where(n => n.Length > 0);
        return new Project(Path.GetRelativePath(Root, file).Replace('\\', '/'), name, [.. projects], [.. packages]);
    }
}
