using System.Reflection;
using System.Text;

namespace VirtPS.Architecture.Tests;

/// <summary>
/// The stable API as text: each change of VirtPS.Sdk or VirtPS.X86 that a third party could see is a line of a diff. After a change that is meant:
/// <c>VIRTPS_UPDATE_API=1 dotnet run --project tests/unit/Architecture.Tests -c Release</c>.
/// </summary>
public class PublicApiTests
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    [Theory]
    [InlineData("VirtPS.X86", "src/X86")]
    [InlineData("VirtPS.Sdk", "src/Sdk/Contracts")]
    public void The_stable_API_is_the_one_on_file(string assembly, string folder)
    {
        string sdk = Path.Combine(Repository.Root, "src/Sdk/Contracts/bin/Release/net10.0");
        string file = Path.Combine(Repository.Root, "tests/unit/Architecture.Tests/PublicApi", assembly + ".txt");
        var resolver = new PathAssemblyResolver(Directory.EnumerateFiles(sdk, "*.dll").Concat(Directory.EnumerateFiles(Path.GetDirectoryName(typeof(object).Assembly.Location)!, "*.dll")));
        using var context = new MetadataLoadContext(resolver);
        string now = Describe(context.LoadFromAssemblyPath(Path.Combine(Repository.Root, folder, "bin/Release/net10.0", assembly + ".dll")));
        if (Environment.GetEnvironmentVariable("VIRTPS_UPDATE_API") == "1")
            File.WriteAllText(file, now);
        string[] before = File.ReadAllLines(file), after = now.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Equal([], before.Except(after).Select(l => "gone: " + l).Concat(after.Except(before).Select(l => "new: " + l)));
    }

    private static string Describe(Assembly assembly)
    {
        var lines = new List<string>();
        foreach (Type type in assembly.GetExportedTypes())
        {
            lines.Add(Kind(type) + Name(type));
            lines.AddRange(type.GetMembers(Declared).Where(IsVisible).Select(m => $"{Name(type)}: {Member(m)}"));
        }

        lines.Sort(StringComparer.Ordinal);
        return string.Join('\n', lines.Distinct()) + "\n";
    }

    private static bool IsVisible(MemberInfo member) => member switch
    {
        MethodBase { IsSpecialName: true } m when m is not ConstructorInfo => false,
        MethodBase m => m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly,
        FieldInfo f => !f.IsSpecialName && (f.IsPublic || f.IsFamily || f.IsFamilyOrAssembly),
        PropertyInfo p => p.GetAccessors(true).Any(IsVisibleAccessor),
        EventInfo e => e.AddMethod is { IsPublic: true },
        _ => false,
    };

    private static bool IsVisibleAccessor(MethodInfo m) => m.IsPublic || m.IsFamily || m.IsFamilyOrAssembly;

    private static string Member(MemberInfo member) => member switch
    {
        ConstructorInfo c => $"new({Parameters(c)})",
        MethodInfo m => $"{Static(m)}{Name(m.ReturnType)} {m.Name}{Generic(m)}({Parameters(m)})",
        FieldInfo f => $"{(f.IsLiteral ? "const " : f.IsStatic ? "static " : "")}{Name(f.FieldType)} {f.Name}{(f.IsLiteral ? $" = {f.GetRawConstantValue()}" : "")}",
        PropertyInfo p => $"{Static(p.GetAccessors(true)[0])}{Name(p.PropertyType)} {p.Name} {{{Accessors(p)}}}",
        EventInfo e => $"event {Name(e.EventHandlerType!)} {e.Name}",
        _ => member.Name,
    };

    private static string Kind(Type type) =>
        type.IsEnum ? "enum " : type.IsValueType ? "struct " : type.IsInterface ? "interface " : type.IsAbstract && type.IsSealed ? "static class " : type.IsAbstract ? "abstract class " : type.IsSealed ? "sealed class " : "class ";

    private static string Static(MethodInfo method) => method.IsStatic ? "static " : method.IsAbstract ? "abstract " : "";

    private static string Generic(MethodInfo method) => method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(a => a.Name))}>" : "";

    private static string Accessors(PropertyInfo property) =>
        string.Join(' ', property.GetAccessors(true).Where(IsVisibleAccessor).Select(a => a.Name.StartsWith("get_", StringComparison.Ordinal) ? "get;" : IsInit(a) ? "init;" : "set;"));

    private static bool IsInit(MethodInfo setter) => setter.ReturnParameter.GetRequiredCustomModifiers().Any(m => m.Name == "IsExternalInit");

    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(p => $"{Name(p.ParameterType)} {p.Name}{(p.IsOptional ? "?" : "")}"));

    private static string Name(Type type)
    {
        if (type.IsByRef || type.IsPointer || type.IsArray)
            return Name(type.GetElementType()!) + (type.IsByRef ? "&" : type.IsPointer ? "*" : "[]");
        if (type.IsGenericParameter)
            return type.Name;
        string name = type.IsNested ? $"{Name(type.DeclaringType!)}.{type.Name}" : type.Namespace is "System" or null ? type.Name : $"{type.Namespace}.{type.Name}";
        int tick = name.IndexOf('`', StringComparison.Ordinal);
        if (tick < 0)
            return name;
        var text = new StringBuilder(name[..tick]);
        return text.Append('<').AppendJoin(", ", type.GetGenericArguments().Select(Name)).Append('>').ToString();
    }
}
