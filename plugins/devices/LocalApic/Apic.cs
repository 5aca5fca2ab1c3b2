using VirtPS.Sdk;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Time;
using VirtPS.X86;

namespace VirtPS.Device.LocalApic;

/// <summary>
/// A vCPU's local APIC (SDM Vol. 3A chapter 10). Its state belongs to the vCPU's thread; <see cref="Post"/>, <see cref="MatchesDestination"/> and
/// <see cref="ArbitrationPriority"/> are safe from any thread. The timer's input clock ("bus clock") is 1 GHz of VM time, so that one count at divide-by-1 is a nanosecond.
/// The APIC id is the vCPU's index. Nothing is wired to LINT1, and there are no thermal or performance events: those registers only keep their value.
/// The bootstrap processor's LINT0 stands at ExtINT, unmasked, after a reset of the platform: the virtual wire that firmware would set up. SMIs are dropped.
/// </summary>
internal sealed partial class Apic : IDevice, ILocalApic
{
    public const string TypeId = "virtps.localapic/lapic";
    public const int Schema = 1;

    /// <summary>Integrated APIC, six LVT entries, EOI-broadcast suppression (SDM Vol. 3A §10.4.8).</summary>
    private const uint Version = 0x14 | ((Lvt.Count - 1) << 16) | (1 << 24);

    private const ulong ApicBaseAddress = 0xF_FFFF_FFFF_F000;

    // Configuration.
    private readonly bool _x2ApicOffered, _tscDeadlineOffered;
    private readonly uint _initialId;

    // Wiring.
    private readonly ILocalApicHost _host;
    private readonly VirtualClock _clock;
    private readonly ILog _log;
    private readonly Alarm _alarm;
    private bool _quiesced, _requested;

    // Guest-visible state. The fields that MatchesDestination reads are read by other threads: each is one aligned word.
    private ulong _apicBase;
    private uint _ldr, _dfr;
    private uint _svr, _esr, _esrPending, _icrLow, _icrHigh;
    private byte _tpr;
    private readonly uint[] _lvt = new uint[Lvt.Count];
    private readonly VectorSet _irr = new(), _isr = new(), _tmr = new();
    private bool _lint0;

    public Apic(LocalApicSpec spec, DeviceContext context, ILocalApicHost host)
    {
        (_x2ApicOffered, _tscDeadlineOffered) = (spec.X2Apic, spec.TscDeadline);
        (_host, _clock, _log) = (host, context.Clock, context.Log);
        _initialId = (uint)host.VcpuIndex;
        _alarm = context.Clock.CreateAlarm($"{context.Name} timer", host.RequestProcess);
        Reset(ResetKind.Cold);
        context.Provide<ILocalApic>(this, host.VcpuIndex.ToString(System.Globalization.CultureInfo.InvariantCulture));
    }

    private bool IsBootstrap => _host.VcpuIndex == 0;

    private bool HardwareEnabled => (Volatile.Read(ref _apicBase) & Msr.ApicBaseEnable) != 0;

    private bool X2Apic => (Volatile.Read(ref _apicBase) & Msr.ApicBaseX2Apic) != 0;

    private bool SoftwareEnabled => (_svr & Svr.Enable) != 0;

    public uint ApicId => X2Apic ? _initialId : _initialId & 0xFF;

    public ulong ApicBase => Volatile.Read(ref _apicBase);

    public void Reset(ResetKind kind)
    {
        _apicBase = PcLayout.LocalApicBase | Msr.ApicBaseEnable | (IsBootstrap ? Msr.ApicBaseBsp : 0);
        ClearPosted();
        ResetRegisters();
        if (IsBootstrap)
            _lvt[Lvt.Lint0] = (uint)DeliveryMode.ExtInt << 8;
        Update(always: true);
    }

    /// <summary>State after power-up, RESET or INIT but for the id and IA32_APIC_BASE (SDM Vol. 3A §10.4.7.1, §10.4.7.3).</summary>
    private void ResetRegisters()
    {
        _tpr = 0;
        _ldr = X2Apic ? X2ApicLogicalId : 0;
        _dfr = uint.MaxValue;
        _svr = 0xFF;
        (_esr, _esrPending, _icrLow, _icrHigh) = (0, 0, 0, 0);
        Array.Fill(_lvt, Lvt.Masked);
        _irr.Clear();
        _isr.Clear();
        _tmr.Clear();
        _extIntMessage = false;
        ResetTimer();
    }

    /// <summary>x2APIC logical id: cluster in the upper half, a bit in the lower (SDM Vol. 3A §10.12.10.2).</summary>
    private uint X2ApicLogicalId => ((_initialId >> 4) << 16) | (1u << (int)(_initialId & 15));

    public void Process()
    {
        TakePosted();
        SampleLint0();
        EvaluateTimer();
        Update();
    }

    /// <summary>Derives the request to the processor from the registers. It costs an atomic operation, so only changes are told.</summary>
    private void Update(bool always = false)
    {
        bool pending = HasInterrupt;
        if (pending == _requested && !always)
            return;
        _requested = pending;
        _host.SetInterruptPending(pending);
    }

    public void Quiesce()
    {
        _quiesced = true;
        _alarm.Deadline = null;
    }

    public void Resume()
    {
        _quiesced = false;
        ArmTimer();
        Update(always: true);
        // Messages may have been restored with the state: have the vCPU look.
        _host.RequestProcess();
    }

    public void Dispose() => _alarm.Dispose();
}
