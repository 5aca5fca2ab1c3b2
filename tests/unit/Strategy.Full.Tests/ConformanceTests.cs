using VirtPS.Sdk.Testing.Conformance;

namespace VirtPS.Strategy.Full.Tests;

/// <summary>The strategy conformance suite, check by check.</summary>
public class ConformanceTests
{
    public static TheoryData<string> Names => [.. StrategyConformance.Checks.Select(c => c.ToString())];

    [Theory]
    [MemberData(nameof(Names))]
    public void Full_conforms(string name) => StrategyConformance.Checks.Single(c => c.ToString() == name).Run(new FullStrategy());
}
