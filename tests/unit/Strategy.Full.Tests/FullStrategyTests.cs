using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Full.Tests;

public class FullStrategyTests
{
    private static readonly FullStrategy s_full = new();

    private static CpuidPolicy Policy(int vcpus = 1, params (string, string)[] options) =>
        s_full.CreateCpuidPolicy(vcpus, options.ToDictionary(o => o.Item1, o => o.Item2));

    [Fact]
    public void The_plugin_brings_one_strategy_named_as_in_its_manifest()
    {
        IStrategy strategy = Assert.Single(new FullPlugin().Strategies);
        string manifest = File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "plugin.json"));
        JsonNode declared = JsonNode.Parse(manifest)!["strategies"]![0]!;
        Assert.Equal(strategy.Info.Name, (string?)declared["name"]);
        Assert.Equal(strategy.Info.Description, (string?)declared["description"]);
    }

    [Theory]
    [InlineData("tier", "turbo", "auto, interpreter")]
    [InlineData("cpu", "486", "x86-64, x86-64-v2, x86-64-v3, x86-64-v4")]
    [InlineData("speed", "1", "tier, cpu")]
    public void A_wrong_option_is_refused_with_what_there_is(string name, string value, string offered)
    {
        var e = Assert.Throws<VirtException>(() => s_full.CreateBackend(new Dictionary<string, string> { [name] = value }, NullLog.Instance));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
        Assert.Contains(offered, e.RecommendedAction);
    }

    [Theory]
    [InlineData("")]
    [InlineData("yes")]
    [InlineData("1")]
    [InlineData("true,false")]
    public void Lockstep_is_true_or_false(string value)
    {
        var e = Assert.Throws<VirtException>(() => s_full.CreateBackend(new Dictionary<string, string> { ["lockstep"] = value }, NullLog.Instance));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
        Assert.Equal($"The option lockstep of the strategy Full is true or false, not '{value}'.", e.Message);
        Assert.Contains("lockstep=true", e.RecommendedAction);
    }

    [Theory]
    [InlineData("")]
    [InlineData("true")]
    public void Cache_is_on_or_off(string value)
    {
        var e = Assert.Throws<VirtException>(() => s_full.CreateBackend(new Dictionary<string, string> { ["cache"] = value }, NullLog.Instance));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
        Assert.Equal($"The option cache of the strategy Full is on or off, not '{value}'.", e.Message);
        Assert.Contains("cache=off", e.RecommendedAction);
        Assert.NotNull(s_full.CreateBackend(new Dictionary<string, string> { ["Cache"] = "OFF" }, NullLog.Instance));
    }

    /// <summary>Whatever the case of name and value, and whether the host could translate or not.</summary>
    [Fact]
    public void Lockstep_needs_the_translator()
    {
        var e = Assert.Throws<VirtException>(() => s_full.CreateBackend(new Dictionary<string, string> { ["LockStep"] = "TRUE", ["tier"] = "interpreter" }, NullLog.Instance));
        Assert.Equal("StrategyOptionInvalid", e.ErrorId);
        Assert.Contains("the translator, which is not used here", e.Message);
        Assert.NotNull(s_full.CreateBackend(new Dictionary<string, string> { ["lockstep"] = "False", ["tier"] = "interpreter" }, NullLog.Instance));
    }

    [Fact]
    public void Levels_differ_in_their_vector_features()
    {
        const uint avx = 1u << 28, sse42 = 1u << 20;
        Assert.Equal(0u, Policy(1, ("cpu", "x86-64")).Query(1, 0).Ecx & (avx | sse42));
        Assert.Equal(0u, Policy(1, ("CPU", "X86-64-v2")).Query(1, 0).Ecx & avx);
        Assert.Equal(VirtPS.Emulation.Thunks.HostFeatures.Current.Avx, (Policy().Query(1, 0).Ecx & avx) != 0);
        const uint avx512f = 1u << 16;
        Assert.Equal(0u, Policy(1, ("cpu", "x86-64-v3")).Query(7, 0).Ebx & avx512f);
        Assert.Equal(VirtPS.Emulation.Thunks.HostFeatures.Current.Avx512, (Policy().Query(7, 0).Ebx & avx512f) != 0);
        Assert.Equal(Policy(1, ("cpu", "x86-64-v4")).Query(7, 0), Policy().Query(7, 0));
    }

    [Fact]
    public void The_model_needs_no_mitigations()
    {
        CpuidPolicy p = Policy();
        Assert.Equal((0x68747541u, 0x69746E65u, 0x444D4163u), (p.Query(0, 0).Ebx, p.Query(0, 0).Edx, p.Query(0, 0).Ecx));
        uint signature = p.Query(1, 0).Eax;
        Assert.Equal(0x1Au, (signature >> 8 & 0xF) + (signature >> 20 & 0xFF));
        // AutoIBRS, SRSO_NO, LFENCE serialising.
        Assert.Equal(1u << 8 | 1u << 29 | 1u << 2, p.Query(0x80000021, 0).Eax & (1u << 8 | 1u << 29 | 1u << 2));
        Assert.NotEqual(0u, p.Query(0x80000008, 0).Ebx & 1u << 26);
    }

    [Theory]
    [InlineData(1, 0u)]
    [InlineData(4, 2u)]
    [InlineData(6, 3u)]
    public void Topology_counts_the_processors(int vcpus, uint shift)
    {
        CpuidPolicy p = Policy(vcpus);
        Assert.Equal((uint)vcpus, p.Query(1, 0).Ebx >> 16 & 0xFF);
        Assert.Equal((shift, (uint)vcpus), (p.Query(0xB, 1).Eax & 0x1F, p.Query(0xB, 1).Ebx));
        Assert.Equal((uint)vcpus - 1, p.Query(0x80000008, 0).Ecx & 0xFF);
        Assert.Equal(vcpus > 1, (p.Query(1, 0).Edx & 1u << 28) != 0);
    }
}
