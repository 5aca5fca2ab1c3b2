using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Strategy.Hardware;

/// <summary>
/// The model-specific registers that are a vCPU's state and that this host's KVM keeps (KVM_GET_MSR_INDEX_LIST). Those without a field of their own stand in
/// <see cref="VcpuState.OtherMsrs"/>, each XORed with its value after creation, so that zero is that value. One per vCPU.
/// </summary>
internal sealed unsafe class KvmMsrs
{
    /// <summary>Slots of <see cref="VcpuState.OtherMsrs"/> in this order; part of the saved state, so entries are only ever added at the end.</summary>
    private static readonly uint[] s_others =
    [
        Msr.MtrrDefType, Msr.MtrrFix64K, Msr.MtrrFix16K80000, Msr.MtrrFix16KA0000, 0x268, 0x269, 0x26A, 0x26B, 0x26C, 0x26D, 0x26E, 0x26F,
        0x200, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209, 0x20A, 0x20B, 0x20C, 0x20D, 0x20E, 0x20F,
        Msr.McgStatus, Msr.McgCtl, Msr.FeatureControl, Msr.DebugCtl, Msr.HwCr, Msr.DeCfg, 0xC001011F, 0x140, 0xE1, 0xC0000104, 0x122, 0x1FC,
        // kvmclock, asynchronous page faults (enable, vector), steal time, EOI, poll control (Documentation/virt/kvm/x86/msr.rst).
        0x12, KvmInterface.SystemTime, KvmInterface.AsyncPageFault, KvmInterface.AsyncPageFaultVector, KvmInterface.StealTime, KvmInterface.PvEoi, KvmInterface.PollControl,
    ];

    private static readonly uint[] s_named =
    [
        Msr.Star, Msr.Lstar, Msr.Cstar, Msr.Sfmask, Msr.KernelGsBase, Msr.SysenterCs, Msr.SysenterEsp, Msr.SysenterEip, Msr.TscAux, Msr.Pat, Msr.MiscEnable, Msr.SpecCtrl,
        Msr.Xss, Msr.TscAdjust,
    ];

    private readonly int _fd;
    private readonly ILog _log;
    private readonly uint[] _indices;
    private readonly int[] _slots;
    private readonly ulong[] _initial;

    /// <summary>For a vCPU that has its CPUID table and has not run.</summary>
    public KvmMsrs(int fd, KvmDevice device, ILog log)
    {
        (_fd, _log) = (fd, log);
        IReadOnlySet<uint> kept = device.KeptMsrs;
        // MTRRs are kept by every KVM but stand in no list before Linux 6.5.
        static bool IsMtrr(uint msr) => msr is >= 0x200 and <= 0x26F or Msr.MtrrDefType or Msr.Pat;
        List<uint> indices = [];
        List<int> slots = [];
        List<ulong> initial = [];
        foreach ((uint msr, int slot) in s_named.Select(m => (m, -1)).Concat(s_others.Select((m, i) => (m, i))))
        {
            if ((kept.Contains(msr) || IsMtrr(msr)) && TryGet(msr, out ulong value))
            {
                indices.Add(msr);
                slots.Add(slot);
                initial.Add(value);
            }
        }

        (_indices, _slots, _initial) = ([.. indices], [.. slots], [.. initial]);
    }

    public bool TryGet(uint msr, out ulong value)
    {
        byte* block = stackalloc byte[8 + sizeof(KvmMsrEntry)];
        *(ulong*)block = 1;
        var entry = (KvmMsrEntry*)(block + 8);
        *entry = new KvmMsrEntry { Index = msr };
        bool ok = LinuxCalls.Ioctl(_fd, Kvm.GetMsrs, block) == 1;
        value = entry->Data;
        return ok;
    }

    public bool TrySet(uint msr, ulong value)
    {
        byte* block = stackalloc byte[8 + sizeof(KvmMsrEntry)];
        *(ulong*)block = 1;
        *(KvmMsrEntry*)(block + 8) = new KvmMsrEntry { Index = msr, Data = value };
        return LinuxCalls.Ioctl(_fd, Kvm.SetMsrs, block) == 1;
    }

    public void Read(VcpuState* state)
    {
        byte* block = stackalloc byte[8 + _indices.Length * sizeof(KvmMsrEntry)];
        var entries = (KvmMsrEntry*)(block + 8);
        *(ulong*)block = (ulong)_indices.Length;
        for (int i = 0; i < _indices.Length; i++)
            entries[i] = new KvmMsrEntry { Index = _indices[i] };
        int done = LinuxCalls.Ioctl(_fd, Kvm.GetMsrs, block);
        if (done != _indices.Length)
            throw new VirtException("StrategyUnavailable", $"KVM refused to read MSR 0x{(done < 0 ? 0 : _indices[done]):X}: {LinuxCalls.ErrorText()}.");
        for (int i = 0; i < done; i++)
            *Place(state, i) = entries[i].Data ^ Base(i);
    }

    /// <summary>KVM stops at the first register that it refuses; that one is said in the log, the rest follows.</summary>
    public void Write(VcpuState* state)
    {
        byte* block = stackalloc byte[8 + _indices.Length * sizeof(KvmMsrEntry)];
        var entries = (KvmMsrEntry*)(block + 8);
        for (int first = 0; first < _indices.Length;)
        {
            int count = _indices.Length - first;
            *(ulong*)block = (ulong)count;
            for (int i = 0; i < count; i++)
                entries[i] = new KvmMsrEntry { Index = _indices[first + i], Data = *Place(state, first + i) ^ Base(first + i) };
            int done = LinuxCalls.Ioctl(_fd, Kvm.SetMsrs, block);
            if (done < 0)
                throw new VirtException("StrategyUnavailable", $"KVM refused the model-specific registers: {LinuxCalls.ErrorText()}.");
            if (done < count)
                _log.Write(LogLevel.Information, $"KVM refused 0x{entries[done].Data:X} for MSR 0x{entries[done].Index:X}.");
            first += done + 1;
        }
    }

    /// <summary>What the value is XORed with in the state; registers with a field of their own stand there as they are.</summary>
    private ulong Base(int i) => _slots[i] < 0 ? 0 : _initial[i];

    private ulong* Place(VcpuState* state, int i) => _slots[i] >= 0 ? &state->OtherMsrs[_slots[i]] : _indices[i] switch
    {
        Msr.Star => &state->Star,
        Msr.Lstar => &state->Lstar,
        Msr.Cstar => &state->Cstar,
        Msr.Sfmask => &state->Sfmask,
        Msr.KernelGsBase => &state->KernelGsBase,
        Msr.SysenterCs => &state->SysenterCs,
        Msr.SysenterEsp => &state->SysenterEsp,
        Msr.SysenterEip => &state->SysenterEip,
        Msr.TscAux => &state->TscAux,
        Msr.Pat => &state->Pat,
        Msr.MiscEnable => &state->MiscEnable,
        Msr.SpecCtrl => &state->SpecCtrl,
        Msr.Xss => &state->Xss,
        Msr.TscAdjust => &state->TscAdjust,
        uint other => throw new InvalidOperationException($"MSR 0x{other:X} has no place in the state."),
    };
}
