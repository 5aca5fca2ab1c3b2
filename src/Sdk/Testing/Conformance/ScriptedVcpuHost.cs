using VirtPS.Sdk.Cpu;

namespace VirtPS.Sdk.Testing.Conformance;

/// <summary>One access that a vCPU made through its host.</summary>
public readonly record struct HostAccess(string Kind, ulong Address, int Size, ulong Value)
{
    public override string ToString() => $"{Kind} 0x{Address:X}/{Size} 0x{Value:X}";
}

/// <summary>
/// The machine around a vCPU under test: records every access, answers reads from what the test has set up, counts time by itself.
/// </summary>
public sealed unsafe class ScriptedVcpuHost : IVcpuHost
{
    private readonly List<HostAccess> _accesses = [];
    private ulong _tsc;

    /// <summary>Everything asked, in order.</summary>
    public IReadOnlyList<HostAccess> Accesses => _accesses;

    /// <summary>MMIO as memory: what was written reads back; else all ones.</summary>
    public Dictionary<ulong, byte> Mmio { get; } = [];

    /// <summary>Answers to IN by port; else all ones.</summary>
    public Dictionary<ushort, Queue<uint>> PortInput { get; } = [];

    /// <summary>MSRs that the machine keeps; others are refused.</summary>
    public Dictionary<uint, ulong> Msrs { get; } = [];

    public ulong Cr8 { get; set; }

    /// <summary>What VMCALL does; null = refused.</summary>
    public Func<nint, bool>? OnHypercall { get; set; }

    /// <summary>Called after each access was recorded, on the vCPU's thread.</summary>
    public Action<HostAccess>? OnAccess { get; set; }

    public string? Failure { get; private set; }

    /// <summary>The next TSC value; each reading adds 1000.</summary>
    public ulong Tsc
    {
        get => _tsc;
        set => _tsc = value;
    }

    public void ReadPort(ushort port, int size, byte* data, int count)
    {
        for (int i = 0; i < count; i++)
        {
            uint value = PortInput.TryGetValue(port, out Queue<uint>? q) && q.TryDequeue(out uint v) ? v : uint.MaxValue;
            for (int b = 0; b < size; b++)
                data[i * size + b] = (byte)(value >> (8 * b));
            Record("in", port, size, size == 4 ? value : value & ((1u << (8 * size)) - 1));
        }
    }

    public void WritePort(ushort port, int size, byte* data, int count)
    {
        for (int i = 0; i < count; i++)
        {
            ulong value = 0;
            for (int b = 0; b < size; b++)
                value |= (ulong)data[i * size + b] << (8 * b);
            Record("out", port, size, value);
        }
    }

    public ulong ReadMmio(ulong gpa, int size)
    {
        ulong value = 0;
        for (int b = 0; b < size; b++)
            value |= (ulong)Mmio.GetValueOrDefault(gpa + (ulong)b, (byte)0xFF) << (8 * b);
        Record("read", gpa, size, value);
        return value;
    }

    public void WriteMmio(ulong gpa, int size, ulong value)
    {
        for (int b = 0; b < size; b++)
            Mmio[gpa + (ulong)b] = (byte)(value >> (8 * b));
        Record("write", gpa, size, value);
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        bool known = Msrs.TryGetValue(msr, out value);
        Record("rdmsr", msr, 8, value);
        return known;
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        Record("wrmsr", msr, 8, value);
        if (!Msrs.ContainsKey(msr))
            return false;
        Msrs[msr] = value;
        return true;
    }

    public ulong ReadCr8() => Cr8;

    public void WriteCr8(ulong value)
    {
        Cr8 = value;
        Record("cr8", 0, 8, value);
    }

    public ulong ReadMachineTsc() => Interlocked.Add(ref _tsc, 1000) - 1000;

    public void FillRandom(Span<byte> destination) => Random.Shared.NextBytes(destination);

    public bool Hypercall(VcpuState* state)
    {
        Record("hypercall", state->Gpr[0], 8, state->Gpr[0]);
        return OnHypercall?.Invoke((nint)state) ?? false;
    }

    public void ReportFailure(string reason) => Failure = reason;

    private void Record(string kind, ulong address, int size, ulong value)
    {
        var access = new HostAccess(kind, address, size, value);
        _accesses.Add(access);
        OnAccess?.Invoke(access);
    }
}
