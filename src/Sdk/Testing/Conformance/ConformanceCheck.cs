using VirtPS.Sdk.Plugins;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>A check failed: what was expected and what was there.</summary>
public sealed class ConformanceException(string message) : Exception(message);

/// <summary>What part of the contract a check is about, so that a backend that is not complete yet runs a part.</summary>
public enum ConformanceArea
{
    Registers, Modes, Exceptions, Paging, Privilege, Interrupts, Ports, Mmio, Memory, Execution, State, Smp, DirtyLog, SingleStep, Processor, Rings,

    /// <summary>Kernels in ring 3 (<see cref="VirtPS.Sdk.Cpu.IDeprivilegedVcpu"/>). Checks of this area pass at once where the backend has none.</summary>
    Deprivileged,
}

/// <summary>A feature of CPUID.(EAX=7,ECX=0):EBX that a check needs.</summary>
public sealed record ConformanceFeature(int Bit, string Name);

/// <summary>One named check. <see cref="Run"/> throws <see cref="ConformanceException"/> with the difference when it fails.</summary>
public sealed record ConformanceCheck(ConformanceArea Area, string Name, Action<ConformanceMachine> Body)
{
    /// <summary>What the guest's processor must offer for the check to make sense; null for none.</summary>
    public ConformanceFeature? Feature { get; init; }

    /// <summary>Why a strategy need not pass the check: it does not offer the feature. Null: it must.</summary>
    public string? DoesNotApplyTo(IStrategy strategy) =>
        Feature is { } f && (strategy.CreateCpuidPolicy(1, new Dictionary<string, string>()).Query(7, 0).Ebx >> f.Bit & 1) == 0 ? $"{strategy.Info.Name} does not offer {f.Name}." : null;

    /// <summary>A fresh machine for <paramref name="strategy"/>, the body, then a look at what the backend reported.</summary>
    public void Run(IStrategy strategy)
    {
        using var machine = new ConformanceMachine(strategy);
        Body(machine);
        if (machine.Host.Failure is { } failure)
            throw new ConformanceException($"The backend reported a failure: {failure}");
    }

    public override string ToString() => $"{Area}: {Name}";
}

/// <summary>What every strategy must do. A test project makes one test of each: <c>foreach (var c in StrategyConformance.Checks) c.Run(strategy)</c>.</summary>
public static partial class StrategyConformance
{
    public static IReadOnlyList<ConformanceCheck> Checks { get; } =
    [
        .. RegisterChecks(), .. ExceptionChecks(), .. PagingChecks(), .. PrivilegeChecks(), .. InterruptChecks(), .. InputOutputChecks(), .. ExecutionChecks(),
        .. MemoryChecks(), .. ProcessorChecks(), .. RingChecks(), .. DeprivilegedChecks(),
    ];

    private static ConformanceCheck Check(ConformanceArea area, string name, Action<ConformanceMachine> body) => new(area, name, body);

    internal static void Equal<T>(T expected, T actual, string what)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, actual))
            throw new ConformanceException($"{what}: expected {Show(expected)}, found {Show(actual)}");
    }

    internal static void True(bool condition, string what)
    {
        if (!condition)
            throw new ConformanceException(what);
    }

    private static string Show<T>(T value) => value is ulong or uint or ushort or byte ? $"0x{value:X}" : $"{value}";
}
