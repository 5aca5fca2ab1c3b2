using VirtPS.Engine.Enlightenments;
using VirtPS.Engine.Interrupts;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Plugins;
using VirtPS.X86;

namespace VirtPS.Engine.Running;

/// <summary>
/// What a vCPU reaches outside itself: buses under the device lock, its own local APIC without it. A device model that throws costs the machine, with its
/// reason, never the worker.
/// </summary>
internal sealed unsafe class VcpuHost(Board board, IGuestInterface guest, IRunnerOwner owner, NondeterminismSource source, ILog log) : IVcpuHost
{
    private const ulong NoApicPage = ulong.MaxValue;

    private ILocalApic? _apic;
    private ulong _apicPage = NoApicPage;

    /// <summary>The vCPU this is the host of; set right after it was created.</summary>
    public IVcpu Vcpu { get; set; } = null!;

    /// <summary>Its local APIC; null where the partition has its own or the machine none.</summary>
    public ILocalApic? LocalApic
    {
        get => _apic;
        set
        {
            _apic = value;
            RefreshApicPage();
        }
    }

    /// <summary>Call after IA32_APIC_BASE may have changed: the page follows it, and is not there in x2APIC mode or when disabled (SDM Vol. 3A §10.4.3, §10.12.1).</summary>
    public void RefreshApicPage()
    {
        const ulong Mode = Msr.ApicBaseEnable | Msr.ApicBaseX2Apic;
        ulong value = _apic?.ApicBase ?? 0;
        _apicPage = (value & Mode) == Msr.ApicBaseEnable ? value & ~0xFFFul & ((1ul << 52) - 1) : NoApicPage;
    }

    /// <summary>KVM's interface; null where the machine does not answer it.</summary>
    public KvmVcpu? Enlightenment { get; set; }

    public void ReadPort(ushort port, int size, byte* data, int count)
    {
        board.Gate.Enter();
        try
        {
            for (int i = 0; i < count; i++, data += size)
                StorePort(data, size, board.Ports.Read(port, size));
            if (log.IsEnabled(LogLevel.Debug) && board.Ports.OwnerOf(port) is null)
                log.Write(LogLevel.Debug, $"read of port 0x{port:X}, where nothing is.");
        }
        catch (Exception e)
        {
            DeviceFailed(board.Ports.OwnerOf(port), e);
            new Span<byte>(data, size).Fill(0xFF);
        }
        finally
        {
            board.Gate.Exit();
        }
    }

    public void WritePort(ushort port, int size, byte* data, int count)
    {
        board.Gate.Enter();
        try
        {
            for (int i = 0; i < count; i++, data += size)
                board.Ports.Write(port, size, size == 1 ? *data : size == 2 ? *(ushort*)data : *(uint*)data);
            if (log.IsEnabled(LogLevel.Debug) && board.Ports.OwnerOf(port) is null)
                log.Write(LogLevel.Debug, $"write to port 0x{port:X}, where nothing is.");
        }
        catch (Exception e)
        {
            DeviceFailed(board.Ports.OwnerOf(port), e);
        }
        finally
        {
            board.Gate.Exit();
        }
    }

    public ulong ReadMmio(ulong gpa, int size)
    {
        try
        {
            if ((gpa & ~0xFFFul) == _apicPage)
            {
                Enlightenment?.BeforeApicAccess();
                return ReadApic((int)(gpa & 0xFFF), size);
            }

            using (board.Gate.Hold())
            {
                if (log.IsEnabled(LogLevel.Debug) && board.Mmio.OwnerOf(gpa) is null)
                    log.Write(LogLevel.Debug, $"read of address 0x{gpa:X}, where nothing is.");
                return board.Mmio.Read(gpa, size);
            }
        }
        catch (Exception e)
        {
            DeviceFailed(board.Mmio.OwnerOf(gpa) ?? "local APIC", e);
            return ulong.MaxValue;
        }
    }

    public void WriteMmio(ulong gpa, int size, ulong value)
    {
        try
        {
            if ((gpa & ~0xFFFul) == _apicPage)
            {
                Enlightenment?.BeforeApicAccess();
                // Registers are 32 bits wide and 16-byte aligned; narrower or misaligned writes have no defined effect (SDM Vol. 3A §10.4.1).
                if (size >= 4 && (gpa & 0xF) == 0)
                    _apic!.WriteRegister((int)(gpa & 0xFFF), (uint)value);
                return;
            }

            using (board.Gate.Hold())
            {
                if (log.IsEnabled(LogLevel.Debug) && board.Mmio.OwnerOf(gpa) is null)
                    log.Write(LogLevel.Debug, $"write to address 0x{gpa:X}, where nothing is.");
                board.Mmio.Write(gpa, size, value);
            }
        }
        catch (Exception e)
        {
            DeviceFailed(board.Mmio.OwnerOf(gpa) ?? "local APIC", e);
        }
    }

    public bool ReadMsr(uint msr, out ulong value)
    {
        value = 0;
        try
        {
            if (IsApicMsr(msr))
            {
                Enlightenment?.BeforeApicAccess();
                return _apic is not null && _apic.ReadMsr(msr, out value);
            }

            if (Enlightenment?.ReadMsr(msr, out value) is { } answered)
                return answered;
        }
        catch (Exception e)
        {
            DeviceFailed("local APIC", e);
            return false;
        }

        log.Write(LogLevel.Information, $"vCPU {Vcpu.Index} read MSR 0x{msr:X}, which it does not have.");
        return false;
    }

    public bool WriteMsr(uint msr, ulong value)
    {
        try
        {
            if (IsApicMsr(msr))
            {
                Enlightenment?.BeforeApicAccess();
                if (_apic is null || !_apic.WriteMsr(msr, value))
                    return false;
                if (msr == Msr.ApicBase)
                    RefreshApicPage();
                return true;
            }

            if (Enlightenment?.WriteMsr(msr, value) is { } taken)
                return taken;
        }
        catch (Exception e)
        {
            DeviceFailed("local APIC", e);
            return false;
        }

        log.Write(LogLevel.Information, $"vCPU {Vcpu.Index} wrote 0x{value:X} to MSR 0x{msr:X}, which it does not have.");
        return false;
    }

    public ulong ReadCr8() => (ulong)(_apic?.TaskPriority ?? 0) >> 4;

    public void WriteCr8(ulong value)
    {
        if (_apic is not null)
            _apic.TaskPriority = (byte)(value << 4);
    }

    public ulong ReadMachineTsc() => board.Clock.MachineTsc;

    public void FillRandom(Span<byte> destination) => source.FillRandom(destination);

    public bool Hypercall(VcpuState* state)
    {
        try
        {
            if (Enlightenment is not { } kvm)
                return guest.Hypercall(Vcpu, state);
            kvm.Hypercall(state);
            return true;
        }
        catch (Exception e)
        {
            DeviceFailed("guest interface", e);
            return false;
        }
    }

    public void ReportFailure(string reason) => owner.OnFailure(reason, null);

    private static bool IsApicMsr(uint msr) => msr is Msr.ApicBase or Msr.TscDeadline or (>= Msr.X2ApicFirst and <= Msr.X2ApicLast);

    private static void StorePort(byte* data, int size, uint value)
    {
        if (size == 1)
            *data = (byte)value;
        else if (size == 2)
            *(ushort*)data = (ushort)value;
        else
            *(uint*)data = value;
    }

    private ulong ReadApic(int offset, int size)
    {
        // The whole register is read; a narrower access takes its bytes.
        uint register = _apic!.ReadRegister(offset & ~3);
        return size >= 4 ? register : (register >> ((offset & 3) * 8)) & ((1u << (size * 8)) - 1);
    }

    private void DeviceFailed(string? device, Exception e) => owner.OnFailure($"Device '{device ?? "?"}' failed: {e.Message}", e);
}
