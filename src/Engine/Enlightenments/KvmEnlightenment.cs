using System.Diagnostics.CodeAnalysis;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.X86;

namespace VirtPS.Engine.Enlightenments;

/// <summary>
/// KVM's paravirtual interface as the machine itself answers it, for backends that leave MSRs and hypercalls to it (docs/ENLIGHTENMENTS.md). It answers what CPUID offers and nothing
/// else. This part is the machine's; each vCPU has its own (<see cref="KvmVcpu"/>).
/// </summary>
internal sealed class KvmEnlightenment
{
    private readonly Board _board;

    public KvmEnlightenment(Board board, KvmFeatures features)
    {
        (_board, Features) = (board, features);
        Vcpus = [.. board.Vcpus.Select(r => new KvmVcpu(this, r, board))];
    }

    public KvmFeatures Features { get; }

    public IReadOnlyList<KvmVcpu> Vcpus { get; }

    /// <summary>MSR_KVM_WALL_CLOCK: where the record was asked for last.</summary>
    public ulong WallClock { get; private set; }

    public GuestMemory Memory => _board.Memory;

    public bool Has(KvmFeatures feature) => (Features & feature) != 0;

    /// <summary>Writes the date at system time 0 into the guest's record: version, seconds, nanoseconds. False where there is no memory.</summary>
    public bool WriteWallClock(ulong gpa)
    {
        if (gpa != 0)
        {
            if ((gpa & 3) != 0 || !Memory.TryLease(gpa, KvmInterface.WallClockSize, writable: true, out MemoryLease lease))
                return false;
            using (lease)
            {
                TimeSpan since = _board.Clock.PowerOnUtc - DateTimeOffset.UnixEpoch;
                ref uint version = ref System.Runtime.InteropServices.MemoryMarshal.AsRef<uint>(lease.Span);
                // Odd while it changes.
                uint next = version | 1;
                Volatile.Write(ref version, next);
                BitConverter.TryWriteBytes(lease.Span[4..], (uint)(since.Ticks / TimeSpan.TicksPerSecond));
                BitConverter.TryWriteBytes(lease.Span[8..], (uint)(since.Ticks % TimeSpan.TicksPerSecond * 100));
                Volatile.Write(ref version, next + 1);
            }
        }

        WallClock = gpa;
        return true;
    }

    /// <summary>Nothing is registered; while no vCPU runs.</summary>
    public void Reset()
    {
        WallClock = 0;
        foreach (KvmVcpu vcpu in Vcpus)
            vcpu.Reset();
    }

    /// <summary>After a pause or a restore, before the vCPUs run.</summary>
    public void Resumed()
    {
        foreach (KvmVcpu vcpu in Vcpus)
            vcpu.Resumed();
    }

    /// <summary>Wakes the vCPU whose local APIC has this id; nothing where there is none.</summary>
    public void Kick(uint apicId)
    {
        if (TryFind(apicId, out KvmVcpu? vcpu))
            vcpu.Kick();
    }

    /// <summary>The vCPU whose local APIC answers to a physical id. Any thread.</summary>
    public bool TryFind(uint apicId, [NotNullWhen(true)] out KvmVcpu? vcpu)
    {
        // 0xFF and above mean several.
        vcpu = apicId < 0xFF ? Vcpus.FirstOrDefault(v => v.LocalApic?.MatchesDestination(apicId, logical: false) == true) : null;
        return vcpu is not null;
    }

    public KvmState Save() => new() { WallClock = WallClock, Vcpus = [.. Vcpus.Select(v => v.Save())] };

    /// <summary>Throws <see cref="VirtException"/> (<c>MachineStateInvalid</c>).</summary>
    public void Restore(KvmState state)
    {
        if (state.Vcpus.Count != Vcpus.Count)
            throw new VirtException("MachineStateInvalid", $"The saved KVM interface has {state.Vcpus.Count} vCPUs; this machine has {Vcpus.Count}.");
        WallClock = state.WallClock;
        for (int i = 0; i < Vcpus.Count; i++)
            Vcpus[i].Restore(state.Vcpus[i]);
    }
}

/// <summary>The enlightenment's part of a saved machine.</summary>
public sealed record KvmState
{
    public required ulong WallClock { get; init; }

    public required IReadOnlyList<KvmVcpuState> Vcpus { get; init; }
}

/// <summary>One vCPU's registers of KVM's interface, and whether it was kicked.</summary>
public sealed record KvmVcpuState(ulong SystemTime, ulong StealTime, ulong PvEoi, bool Kicked);
