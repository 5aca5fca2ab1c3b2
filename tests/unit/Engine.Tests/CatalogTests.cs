using System.Reflection;
using System.Reflection.Emit;
using System.Text.Json.Nodes;
using VirtPS.Engine.Catalog;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Tests;

public sealed class CatalogTests : IDisposable
{
    private const string Manifest = """
        { "id": "test.plugin", "version": "1.0", "kind": "device", "assembly": "Test.Plugin.dll", "sdk": "[0.1,0.2)",
          "models": [ { "id": "thing", "description": "A thing.", "properties": [
            { "name": "port", "type": "int", "default": 1, "help": "First port." },
            { "name": "mode", "type": "string", "values": ["fast", "safe"] },
            { "name": "size", "type": "integer", "required": true } ] } ] }
        """;

    private static readonly string s_repository = typeof(CatalogTests).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "Repository").Value!;

    private readonly string _root = Directory.CreateTempSubdirectory("virtps-catalog-").FullName;
    private readonly PluginRegistry _registry;

    public CatalogTests() => _registry = new PluginRegistry(Path.Combine(_root, "registry.json"));

    public void Dispose() => Directory.Delete(_root, recursive: true);

    private string Folder(string name, string manifest = Manifest)
    {
        string folder = Path.Combine(_root, "plugins", name);
        Directory.CreateDirectory(folder);
        File.WriteAllText(Path.Combine(folder, PluginManifest.FileName), manifest);
        return folder;
    }

    private PluginCatalog Catalog(PluginSource source = PluginSource.Module) => new([new PluginRoot(Path.Combine(_root, "plugins"), source)], _registry);

    private static JsonObject Spec(string model = "test.plugin/thing", string more = "\"size\": 1") => JsonNode.Parse($"{{ \"model\": \"{model}\", \"name\": \"x\", {more} }}")!.AsObject();

    private static VirtException Fails(PluginCatalog catalog, JsonObject? spec = null) => Assert.Throws<VirtException>(() => catalog.GetDeviceFactory(spec ?? Spec()));

    /// <summary>Writes an assembly whose entry type does what <paramref name="constructor"/> says.</summary>
    private static void Emit(string folder, Action<ILGenerator> constructor, Type? contract = null, bool attribute = true)
    {
        var assembly = new PersistedAssemblyBuilder(new AssemblyName("Test.Plugin"), typeof(object).Assembly);
        TypeBuilder type = assembly.DefineDynamicModule("Test.Plugin").DefineType("Entry", TypeAttributes.Public, typeof(object), [contract ?? typeof(IPlugin)]);
        ILGenerator il = type.DefineConstructor(MethodAttributes.Public, CallingConventions.Standard, []).GetILGenerator();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Call, typeof(object).GetConstructor([])!);
        constructor(il);
        il.Emit(OpCodes.Ret);
        type.CreateType();
        if (attribute)
            assembly.SetCustomAttribute(new CustomAttributeBuilder(typeof(PluginAttribute).GetConstructor([typeof(Type)])!, [type]));
        assembly.Save(Path.Combine(folder, "Test.Plugin.dll"));
    }

    [Fact]
    public void An_assembly_that_is_missing_is_named()
    {
        Folder("a");
        VirtException e = Fails(Catalog());
        Assert.Equal("PluginLoadFailed", e.ErrorId);
        Assert.Contains("'Test.Plugin.dll' is missing", e.Message);
    }

    [Fact]
    public void A_damaged_assembly_is_one_clear_error()
    {
        File.WriteAllText(Path.Combine(Folder("a"), "Test.Plugin.dll"), "not an assembly");
        Assert.Contains("damaged", Fails(Catalog()).Message);
    }

    [Fact]
    public void Another_sdk_version_is_refused_without_loading()
    {
        Folder("a", Manifest.Replace("[0.1,0.2)", "[7.0,8.0)", StringComparison.Ordinal));
        VirtException e = Fails(Catalog());
        Assert.Contains("VirtPS.Sdk [7.0,8.0)", e.Message);
        Assert.Contains("0.1", e.Message);
    }

    [Fact]
    public void A_constructor_that_throws_is_reported_with_its_message()
    {
        Emit(Folder("a"), il =>
        {
            il.Emit(OpCodes.Ldstr, "I cannot live");
            il.Emit(OpCodes.Newobj, typeof(InvalidOperationException).GetConstructor([typeof(string)])!);
            il.Emit(OpCodes.Throw);
        });
        Assert.Contains("constructor failed: I cannot live", Fails(Catalog()).Message);
    }

    [Fact]
    public void A_plugin_without_attribute_interface_or_the_promised_model_says_so()
    {
        Emit(Folder("a"), _ => { }, attribute: false);
        Assert.Contains("[assembly: Plugin", Fails(Catalog()).Message);
        Emit(Folder("b", Manifest.Replace("test.plugin", "test.b", StringComparison.Ordinal)), _ => { }, typeof(IUnrelated));
        Assert.Contains("does not implement", Fails(Catalog(), Spec("test.b/thing")).Message);
        Emit(Folder("c", Manifest.Replace("test.plugin", "test.c", StringComparison.Ordinal)), _ => { });
        Assert.Contains("names the model 'thing'", Fails(Catalog(), Spec("test.c/thing")).Message);
    }

    public interface IUnrelated;

    [Fact]
    public void A_broken_manifest_costs_no_other_plugin()
    {
        Folder("a", "{ \"id\": ");
        Folder("b", """{ "id": "no.assembly", "sdk": "0.1" }""");
        Folder("c");
        PluginCatalog catalog = Catalog();
        Assert.Equal(3, catalog.Plugins.Count);
        Assert.Contains("line 1", catalog.Plugins[0].Error!.Message);
        Assert.Contains("'assembly'", catalog.Plugins[1].Error!.Message);
        Assert.Equal(["test.plugin/thing"], catalog.Models.Select(m => m.Id));
        VirtException e = Fails(catalog, Spec("nobody/nothing"));
        Assert.Contains("test.plugin/thing", e.Message);
    }

    [Fact]
    public void Of_two_plugins_with_one_id_the_first_counts()
    {
        Folder("a");
        Folder("b");
        IReadOnlyList<DiscoveredPlugin> plugins = Catalog().Plugins;
        Assert.Null(plugins[0].Error);
        Assert.Contains("test.plugin", plugins[1].Error!.Message);
    }

    [Theory]
    [InlineData("\"size\": 1, \"speed\": 2", "no property 'speed'")]
    [InlineData("\"size\": \"many\"", "type integer")]
    [InlineData("\"size\": 1, \"mode\": \"wild\"", "fast, safe")]
    [InlineData("\"port\": 1", "needs the property 'size'")]
    public void Specs_are_checked_against_the_manifest_without_plugin_code(string properties, string expected)
    {
        Folder("a");
        VirtException e = Fails(Catalog(), Spec(more: properties));
        Assert.Equal("DevicePropertyInvalid", e.ErrorId);
        Assert.Contains(expected, e.Message);
        Assert.Contains("'x'", e.Message);
    }

    [Fact]
    public void Numbers_may_be_strings_and_names_take_no_case()
    {
        Folder("a");
        Assert.Equal("PluginLoadFailed", Fails(Catalog(), Spec(more: "\"Size\": \"12\", \"mode\": \"FAST\", \"port\": null")).ErrorId);
    }

    [Fact]
    public void A_foreign_plugin_loads_only_as_it_was_registered()
    {
        string folder = Folder("a");
        Emit(folder, _ => { });
        Assert.Equal("PluginNotRegistered", Fails(Catalog(PluginSource.User)).ErrorId);
        _registry.Register(folder);
        File.WriteAllText(Path.Combine(folder, "extra.dll"), "x");
        Assert.Contains("'extra.dll' is new", Fails(Catalog(PluginSource.User)).Message);
        File.Delete(Path.Combine(folder, "extra.dll"));
        byte[] dll = File.ReadAllBytes(Path.Combine(folder, "Test.Plugin.dll"));
        File.WriteAllBytes(Path.Combine(folder, "Test.Plugin.dll"), [.. dll, 0]);
        Assert.Contains("'Test.Plugin.dll' differs", Fails(Catalog(PluginSource.User)).Message);
        File.WriteAllBytes(Path.Combine(folder, "Test.Plugin.dll"), dll);
        // Past the registry: now it is the plugin itself that lacks the model.
        Assert.Contains("names the model", Fails(Catalog(PluginSource.User)).Message);
        Assert.True(_registry.Unregister(folder));
        Assert.False(_registry.Unregister(folder));
        Assert.Equal("PluginNotRegistered", Fails(Catalog(PluginSource.User)).ErrorId);
    }

    [Fact]
    public void The_modules_own_plugins_load_each_in_its_context_and_share_the_contracts()
    {
        List<PluginRoot> roots = [];
        foreach (string project in Directory.EnumerateDirectories(Path.Combine(s_repository, "plugins", "devices")).Concat(Directory.EnumerateDirectories(Path.Combine(s_repository, "plugins", "strategies"))))
        {
            string output = Path.Combine(project, "bin", "Release", "net10.0");
            if (File.Exists(Path.Combine(project, PluginManifest.FileName)))
                roots.Add(new PluginRoot(output, PluginSource.Module));
        }

        Assert.NotEmpty(roots);
        var catalog = new PluginCatalog(roots, _registry);
        Assert.Equal(roots.Count, catalog.Plugins.Count);
        foreach (DiscoveredPlugin plugin in catalog.Plugins)
            Assert.Null(catalog.TryLoad(plugin)?.Message);
        Assert.Contains("virtps.serial/16550a", catalog.Models.Select(m => m.Id));
        object factory = catalog.GetDeviceFactory(new JsonObject { ["model"] = "virtps.serial/16550a", ["name"] = "com1" });
        Assert.NotSame(System.Runtime.Loader.AssemblyLoadContext.Default, System.Runtime.Loader.AssemblyLoadContext.GetLoadContext(factory.GetType().Assembly));
    }

    [Fact]
    public void Strategies_are_found_and_their_options_checked()
    {
        Folder("a", """
            { "id": "test.s", "version": "1", "kind": "strategy", "assembly": "S.dll", "sdk": "0.1",
              "strategies": [ { "name": "Odd", "options": [ { "name": "tier", "values": ["a", "b"] } ] } ] }
            """);
        PluginCatalog catalog = Catalog();
        VirtException e = Assert.Throws<VirtException>(() => catalog.GetStrategy("Even", new Dictionary<string, string>()));
        Assert.Equal("StrategyNotFound", e.ErrorId);
        Assert.Contains("Odd", e.Message);
        Assert.Contains("tier", Assert.Throws<VirtException>(() => catalog.GetStrategy("odd", new Dictionary<string, string> { ["speed"] = "1" })).Message);
        Assert.Contains("a, b", Assert.Throws<VirtException>(() => catalog.GetStrategy("odd", new Dictionary<string, string> { ["tier"] = "c" })).Message);
        Assert.Equal("PluginLoadFailed", Assert.Throws<VirtException>(() => catalog.GetStrategy("odd", new Dictionary<string, string> { ["Tier"] = "A" })).ErrorId);
    }

    [Theory]
    [InlineData("[0.1,0.2)", "0.1.0.0", true)]
    [InlineData("[0.1,0.2)", "0.1.9.0", true)]
    [InlineData("[0.1,0.2)", "0.2.0.0", false)]
    [InlineData("(0.1,0.2]", "0.1.0.0", false)]
    [InlineData("(0.1,0.2]", "0.2.0.0", true)]
    [InlineData("0.1", "3.0.0.0", true)]
    [InlineData("[1,)", "0.9.0.0", false)]
    [InlineData("[0.1]", "0.1.0.0", true)]
    public void Version_ranges_mean_what_nuget_means(string range, string version, bool inside)
    {
        Assert.True(SdkVersionRange.TryParse(range, out SdkVersionRange? parsed));
        Assert.Equal(inside, parsed!.Contains(new Version(version)));
    }

    [Theory]
    [InlineData("")]
    [InlineData("[0.1")]
    [InlineData("[a,b]")]
    public void Nonsense_is_no_version_range(string range) => Assert.False(SdkVersionRange.TryParse(range, out _));
}
