namespace VirtPS.Emulation;

/// <summary>The stubs that translations of blocks jump to or call.</summary>
internal enum StubName : byte
{
    Interpret,
    ExitLink,
    ExitIndirect,
    SecondLookUser,
    SecondLookSupervisor,
    ClearInterruptFlag,
    SetInterruptFlag,
    Flags,
    ExitUnpinned,
    VectorGate,
    X87Gate,
    ClearDirectionFlag,
    SetDirectionFlag,
    WideGate,
}

/// <summary>Where a stub is.</summary>
internal readonly unsafe struct StubCode(StubName name, byte* address)
{
    public StubName Name => name;

    public byte* Address => address;
}
