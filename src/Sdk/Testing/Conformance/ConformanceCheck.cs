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

/// <summary>With whose interrupt controllers a check makes sense.</summary>
[Flags]
public enum ConformanceControllers
{
    /// <summary>The machine's: the backend opens interrupt windows and takes vectors.</summary>
    Machine = 1,

    /// <summary>Those of the partition (<see cref="Cpu.IPartition.InterruptController"/>).</summary>
    Partition = 2,

    Either = Machine | Partition,
}

/// <summary>One named check. <see cref="Run"/> throws <see cref="ConformanceException"/> with the difference when it fails.</summary>
public sealed record ConformanceCheck(ConformanceArea Area, string Name, Action<ConformanceMachine> Body)
{
    /// <summary>What the guest's processor must offer for the check to make sense; null for none.</summary>
    public ConformanceFeature? Feature { get; init; }

    /// <summary>Why a strategy need not pass the check: it does not offer the feature. Null: it must.</summary>
    public string? DoesNotApplyTo(IStrategy strategy) =>
        Feature is { } f && (strategy.CreateCpuidPolicy(1, new Dictionary<string, string>()).Query(7, 0).Ebx >> f.Bit & 1) == 0 ? $"{strategy.Info.Name} does not offer {f.Name}." : null;

    public ConformanceControllers Controllers { get; init; } = ConformanceControllers.Either;

    /// <summary>A fresh machine for <paramref name="strategy"/>, the body, then a look at what the backend reported.</summary>
    /// <param name="strategy">What is tested.</param>
    /// <param name="partitionControllers">Take the partition's own interrupt controllers, which the backend must have.</param>
    public void Run(IStrategy strategy, bool partitionControllers = false)
    {
        using var machine = new ConformanceMachine(strategy, partitionControllers);
        Body(machine);
        if (machine.Host.Failure is { } failure)
            throw new ConformanceException($"The backend reported a failure: {failure}");
    }

    public override string ToString() => $"{Area}: {Name}";
}

/// <summary>What every strategy must do. A test project makes one test of each: <c>foreach (var c in StrategyConformance.Checks) c.Run(strategy)</c>.</summary>
public static partial class StrategyConformance
{
    private static readonly ConformanceCheck[] s_all =
    [
        .. RegisterChecks(), .. ExceptionChecks(), .. PagingChecks(), .. PrivilegeChecks(), .. InterruptChecks(), .. InputOutputChecks(), .. ExecutionChecks(),
        .. MemoryChecks(), .. ProcessorChecks(), .. RingChecks(), .. DeprivilegedChecks(), .. PartitionControllerChecks(),
    ];

    /// <summary>With the machine's interrupt controllers.</summary>
    public static IReadOnlyList<ConformanceCheck> Checks { get; } = [.. s_all.Where(c => c.Controllers.HasFlag(ConformanceControllers.Machine))];

    /// <summary>With the partition's own interrupt controllers, for backends that have some.</summary>
    public static IReadOnlyList<ConformanceCheck> ChecksWithPartitionControllers { get; } = [.. s_all.Where(c => c.Controllers.HasFlag(ConformanceControllers.Partition))];

    private static ConformanceCheck Check(ConformanceArea area, string name, Action<ConformanceMachine> body, ConformanceControllers controllers = ConformanceControllers.Either) =>
        new(area, name, body) { Controllers = controllers };

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
