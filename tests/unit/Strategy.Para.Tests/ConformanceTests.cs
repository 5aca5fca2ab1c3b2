using VirtPS.Sdk.Testing.Conformance;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>The strategy conformance suite, check by check, on the processor that Xen guests get: its backend as such, and with a kernel in ring 3 under a supervisor.</summary>
public class ConformanceTests
{
    public static TheoryData<string> Names => [.. StrategyConformance.Checks.Select(c => c.ToString())];

    [Theory]
    [MemberData(nameof(Names))]
    public void Para_conforms(string name)
    {
        var strategy = new ParaStrategy();
        ConformanceCheck check = StrategyConformance.Checks.Single(c => c.ToString() == name);
        Assert.SkipWhen(check.DoesNotApplyTo(strategy) is not null, check.DoesNotApplyTo(strategy) ?? "");
        check.Run(strategy);
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void The_interpreter_alone_conforms_too(string name)
    {
        var strategy = new StrategyWithOptions(new ParaStrategy(), new Dictionary<string, string> { ["tier"] = "interpreter" });
        ConformanceCheck check = StrategyConformance.Checks.Single(c => c.ToString() == name);
        Assert.SkipWhen(check.DoesNotApplyTo(strategy) is not null, check.DoesNotApplyTo(strategy) ?? "");
        check.Run(strategy);
    }
}
