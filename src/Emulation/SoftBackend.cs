using System.Runtime.InteropServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Rings;

namespace VirtPS.Emulation;

/// <summary>How a software backend executes guest code.</summary>
public sealed record EngineOptions
{
    /// <summary>Translate code that is executed often into host code; else everything is interpreted.</summary>
    public bool Translate { get; init; }

    /// <summary>Executions of a block by the interpreter before it is translated; 0 translates at once.</summary>
    public int HotAfter { get; init; } = 16;

    /// <summary>Bytes of generated code per vCPU before all of it is made anew.</summary>
    public int CodeCacheSize { get; init; } = 32 << 20;

    /// <summary>Index the TLB without PEXT, which takes hundreds of cycles on AMD's processors before Zen 3.</summary>
    public bool AvoidPext { get; init; } = HasSlowPext;

    /// <summary>
    /// Executes every piece of generated code in the interpreter, too, and stops the machine with a <see cref="LockStepException"/> at the first difference (docs/TRANSLATION.md). For machines of one vCPU whose devices
    /// do not write guest memory meanwhile; some hundred times slower.
    /// </summary>
    public bool LockStep { get; init; }

    /// <summary>What generated code may use of the host's processor. Less than that has (<see cref="HostFeatures.LimitedTo"/>) serves tests.</summary>
    public HostFeatures Host { get; init; } = HostFeatures.Current;

    /// <summary>
    /// A folder, made when it is needed, in which decoded and translated blocks are kept for the next run (docs/TRANSLATION.md); null keeps none. It holds code that is executed: files in it are
    /// used only if they are this user's and nobody else may write them.
    /// </summary>
    public string? StoreFolder { get; init; }

    /// <summary>What generated code depends on besides the guest's code, the engine's build and <see cref="Thunks.HostFeatures"/>. An option that changes what is generated belongs here.</summary>
    internal string DescribeCode() => $"AvoidPext={AvoidPext} {Host}";

    /// <summary>Called after each translation with the address of its <see cref="Block"/>; tests damage code through it.</summary>
    internal Action<SoftVcpu, nint>? AfterTranslation { get; init; }

    private static bool HasSlowPext
    {
        get
        {
            if (RuntimeInformation.ProcessArchitecture != Architecture.X64)
                return false;
            (_, int b, int c, int d) = System.Runtime.Intrinsics.X86.X86Base.CpuId(0, 0);
            (int signature, _, _, _) = System.Runtime.Intrinsics.X86.X86Base.CpuId(1, 0);
            int family = (signature >> 8 & 15) + (signature >> 20 & 0xFF);
            // "AuthenticAMD"; Zen 3 is family 19h.
            return (b, d, c) == (0x68747541, 0x69746E65, 0x444D4163) && family < 0x19;
        }
    }

    /// <summary>Whether this host can run generated code: Linux on x64, but for its first processors, which have no LAHF in 64-bit mode.</summary>
    public static bool CanTranslate => OperatingSystem.IsLinux() && HostFeatures.Current.LahfSahf;

    /// <summary>The kind of generated code that this host gets, for people.</summary>
    public static string HostKind => HostFeatures.Current.Bmi2 ? "x64 Linux with BMI2" : "x64 Linux, without BMI2: memory checks take longer";
}

/// <summary>The x86-64 interpreter, with or without the binary translator, as a CPU backend.</summary>
public sealed class SoftBackend(EngineOptions engine) : ICpuBackend
{
    /// <summary>The interpreter alone.</summary>
    public SoftBackend()
        : this(new EngineOptions())
    {
    }

    public string Tier => engine.Translate ? "Translator" : "Interpreter";

    public BackendCapabilities Capabilities => new()
    {
        // Other memory models than x86's have not been taken into account: one vCPU there.
        MaxVcpus = RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 32 : 1,
        RingFidelity = RingFidelity.Exact,
        Execution = engine.Translate ? ExecutionKind.Translated : ExecutionKind.Interpreted,
        HostRing = 3,
        CountsInstructions = true,
    };

    public IPartition CreatePartition(PartitionOptions options) => new SoftPartition(options, engine);

    public void Dispose()
    {
    }
}
