using System.Reflection;
using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;

namespace VirtPS.Architecture.Tests;

/// <summary>Nothing mutable and static in what is shipped.</summary>
public class StaticStateTests
{
    public static TheoryData<string> Assemblies => [.. Repository.Shipped.Select(Output).OfType<string>()];

    [Fact]
    public void There_are_assemblies_to_look_at() => Assert.True(Assemblies.Count > 5, "Build the solution first.");

    [Theory]
    [MemberData(nameof(Assemblies))]
    public void Static_fields_are_readonly(string assembly)
    {
        using var file = new PEReader(File.OpenRead(Path.Combine(Repository.Root, assembly)));
        MetadataReader reader = file.GetMetadataReader();
        List<string> bad = [];
        foreach (FieldDefinition field in reader.FieldDefinitions.Select(reader.GetFieldDefinition))
        {
            const FieldAttributes Settled = FieldAttributes.InitOnly | FieldAttributes.Literal;
            if ((field.Attributes & FieldAttributes.Static) == 0 || (field.Attributes & Settled) != 0)
                continue;
            TypeDefinition type = reader.GetTypeDefinition(field.GetDeclaringType());
            string name = $"{reader.GetString(type.Namespace)}.{reader.GetString(type.Name)}.{reader.GetString(field.Name)}";
            if (!IsCompilers(name))
                bad.Add(name);
        }

        Assert.Empty(bad);
    }

    // Caches of delegates and the like that the compiler or the interop generator makes have names that no source can have.
    private static bool IsCompilers(string name) => name.Contains('<', StringComparison.Ordinal);

    private static string? Output(Project project)
    {
        string folder = Path.Combine(Path.GetDirectoryName(project.Path)!, "bin", "Release", "net10.0");
        string path = Path.Combine(folder, project.AssemblyName + ".dll");
        return File.Exists(Path.Combine(Repository.Root, path)) ? path : null;
    }
}
