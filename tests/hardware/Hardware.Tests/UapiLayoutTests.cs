using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using VirtPS.Strategy.Hardware;

namespace VirtPS.Hardware.Tests;

/// <summary>Every number, size and offset of KvmApi.cs against the kernel's own header, by the C compiler.</summary>
public sealed class UapiLayoutTests
{
    private static readonly (string C, uint Ours)[] Numbers =
    [
        ("KVM_API_VERSION", Kvm.ApiVersion), ("KVM_GET_API_VERSION", Kvm.GetApiVersion), ("KVM_CREATE_VM", Kvm.CreateVm), ("KVM_CHECK_EXTENSION", Kvm.CheckExtension),
        ("KVM_GET_VCPU_MMAP_SIZE", Kvm.GetVcpuMmapSize), ("KVM_GET_SUPPORTED_CPUID", Kvm.GetSupportedCpuid), ("KVM_CREATE_VCPU", Kvm.CreateVcpu),
        ("KVM_GET_DIRTY_LOG", Kvm.GetDirtyLog), ("KVM_SET_USER_MEMORY_REGION", Kvm.SetUserMemoryRegion), ("KVM_SET_TSS_ADDR", Kvm.SetTssAddress),
        ("KVM_SET_IDENTITY_MAP_ADDR", Kvm.SetIdentityMapAddress), ("KVM_RUN", Kvm.Run), ("KVM_GET_REGS", Kvm.GetRegs), ("KVM_SET_REGS", Kvm.SetRegs),
        ("KVM_GET_SREGS", Kvm.GetSregs), ("KVM_SET_SREGS", Kvm.SetSregs), ("KVM_TRANSLATE", Kvm.Translate), ("KVM_INTERRUPT", Kvm.Interrupt),
        ("KVM_GET_MSRS", Kvm.GetMsrs), ("KVM_SET_MSRS", Kvm.SetMsrs), ("KVM_SET_SIGNAL_MASK", Kvm.SetSignalMask), ("KVM_SET_CPUID2", Kvm.SetCpuid2),
        ("KVM_NMI", Kvm.Nmi), ("KVM_SET_GUEST_DEBUG", Kvm.SetGuestDebug), ("KVM_GET_VCPU_EVENTS", Kvm.GetVcpuEvents), ("KVM_SET_VCPU_EVENTS", Kvm.SetVcpuEvents),
        ("KVM_GET_DEBUGREGS", Kvm.GetDebugRegs), ("KVM_SET_DEBUGREGS", Kvm.SetDebugRegs), ("KVM_GET_XSAVE", Kvm.GetXsave), ("KVM_SET_XSAVE", Kvm.SetXsave),
        ("KVM_GET_XCRS", Kvm.GetXcrs), ("KVM_SET_XCRS", Kvm.SetXcrs), ("KVM_CAP_USER_MEMORY", Kvm.CapUserMemory), ("KVM_CAP_NR_VCPUS", Kvm.CapNrVcpus),
        ("KVM_CAP_VCPU_EVENTS", Kvm.CapVcpuEvents), ("KVM_CAP_MAX_VCPUS", Kvm.CapMaxVcpus), ("KVM_CAP_IMMEDIATE_EXIT", Kvm.CapImmediateExit),
        ("KVM_GET_MSR_INDEX_LIST", Kvm.GetMsrIndexList), ("KVM_ENABLE_CAP", Kvm.EnableCap), ("KVM_X86_SET_MSR_FILTER", Kvm.SetMsrFilter), ("KVM_SET_TSC_KHZ", Kvm.SetTscKhz),
        ("KVM_GET_TSC_KHZ", Kvm.GetTscKhz), ("KVM_SET_DEVICE_ATTR", Kvm.SetDeviceAttr), ("KVM_GET_DEVICE_ATTR", Kvm.GetDeviceAttr), ("KVM_HAS_DEVICE_ATTR", Kvm.HasDeviceAttr),
        ("KVM_CAP_TSC_CONTROL", Kvm.CapTscControl), ("KVM_CAP_X86_USER_SPACE_MSR", Kvm.CapUserSpaceMsr), ("KVM_CAP_X86_MSR_FILTER", Kvm.CapMsrFilter),
        ("KVM_CAP_VM_TSC_CONTROL", Kvm.CapVmTscControl), ("KVM_EXIT_X86_RDMSR", Kvm.ExitRdmsr), ("KVM_EXIT_X86_WRMSR", Kvm.ExitWrmsr),
        ("KVM_MSR_EXIT_REASON_INVAL", Kvm.MsrReasonInvalid), ("KVM_MSR_EXIT_REASON_UNKNOWN", Kvm.MsrReasonUnknown), ("KVM_MSR_EXIT_REASON_FILTER", Kvm.MsrReasonFilter),
        ("KVM_MSR_FILTER_READ", Kvm.MsrFilterRead), ("KVM_MSR_FILTER_WRITE", Kvm.MsrFilterWrite), ("KVM_VCPU_TSC_CTRL", Kvm.VcpuTscControl),
        ("KVM_VCPU_TSC_OFFSET", Kvm.VcpuTscOffset), ("sizeof(struct kvm_enable_cap)", Size<KvmEnableCap>()), ("sizeof(struct kvm_msr_filter)", Size<KvmMsrFilter>()),
        ("sizeof(struct kvm_msr_filter_range)", Size<KvmMsrFilterRange>()), ("sizeof(struct kvm_device_attr)", Size<KvmDeviceAttr>()),
        ("KVM_CREATE_IRQCHIP", Kvm.CreateIrqchip), ("KVM_IRQ_LINE", Kvm.IrqLine), ("KVM_GET_IRQCHIP", Kvm.GetIrqchip), ("KVM_SET_IRQCHIP", Kvm.SetIrqchip),
        ("KVM_SET_GSI_ROUTING", Kvm.SetGsiRouting), ("KVM_IRQFD", Kvm.Irqfd), ("KVM_CREATE_PIT2", Kvm.CreatePit2), ("KVM_IOEVENTFD", Kvm.Ioeventfd), ("KVM_SET_CLOCK", Kvm.SetClock),
        ("KVM_GET_CLOCK", Kvm.GetClock), ("KVM_GET_PIT2", Kvm.GetPit2), ("KVM_SET_PIT2", Kvm.SetPit2), ("KVM_SIGNAL_MSI", Kvm.SignalMsi), ("KVM_GET_LAPIC", Kvm.GetLapic),
        ("KVM_SET_LAPIC", Kvm.SetLapic), ("KVM_GET_MP_STATE", Kvm.GetMpState), ("KVM_SET_MP_STATE", Kvm.SetMpState), ("KVM_KVMCLOCK_CTRL", Kvm.ClockControl),
        ("KVM_CAP_IRQCHIP", Kvm.CapIrqchip), ("KVM_CAP_MP_STATE", Kvm.CapMpState), ("KVM_CAP_IRQ_ROUTING", Kvm.CapIrqRouting), ("KVM_CAP_IRQFD", Kvm.CapIrqfd),
        ("KVM_CAP_PIT2", Kvm.CapPit2), ("KVM_CAP_PIT_STATE2", Kvm.CapPitState2), ("KVM_CAP_IOEVENTFD", Kvm.CapIoeventfd), ("KVM_CAP_ADJUST_CLOCK", Kvm.CapAdjustClock),
        ("KVM_CAP_TSC_DEADLINE_TIMER", Kvm.CapTscDeadline), ("KVM_CAP_SIGNAL_MSI", Kvm.CapSignalMsi), ("KVM_MP_STATE_RUNNABLE", Kvm.MpRunnable),
        ("KVM_MP_STATE_UNINITIALIZED", Kvm.MpUninitialized), ("KVM_MP_STATE_INIT_RECEIVED", Kvm.MpInitReceived), ("KVM_MP_STATE_HALTED", Kvm.MpHalted),
        ("KVM_MP_STATE_SIPI_RECEIVED", Kvm.MpSipiReceived), ("KVM_IRQCHIP_PIC_MASTER", Kvm.ChipPicMaster), ("KVM_IRQCHIP_PIC_SLAVE", Kvm.ChipPicSlave),
        ("KVM_IRQCHIP_IOAPIC", Kvm.ChipIoApic), ("KVM_IRQ_ROUTING_IRQCHIP", Kvm.RouteIrqchip), ("KVM_IRQ_ROUTING_MSI", Kvm.RouteMsi), ("KVM_IRQFD_FLAG_DEASSIGN", Kvm.IrqfdDeassign),
        ("KVM_IOEVENTFD_FLAG_DATAMATCH", Kvm.IoeventfdDatamatch), ("KVM_IOEVENTFD_FLAG_DEASSIGN", Kvm.IoeventfdDeassign), ("KVM_PIT_SPEAKER_DUMMY", Kvm.PitSpeakerDummy),
        ("sizeof(struct kvm_irq_level)", Size<KvmIrqLevel>()), ("sizeof(struct kvm_msi)", Size<KvmMsi>()), ("sizeof(struct kvm_irqchip)", Size<KvmIrqchip>()),
        ("sizeof(struct kvm_pit_config)", Size<KvmPitConfig>()), ("sizeof(struct kvm_pit_state2)", Size<KvmPitState2>()), ("sizeof(struct kvm_lapic_state)", Size<KvmLapicState>()),
        ("sizeof(struct kvm_clock_data)", Size<KvmClockData>()), ("sizeof(struct kvm_irqfd)", Size<KvmIrqfd>()), ("sizeof(struct kvm_ioeventfd)", Size<KvmIoeventfd>()),
        ("sizeof(struct kvm_irq_routing_entry)", Size<KvmIrqRoute>()), ("offsetof(struct kvm_pit_state2, channels[0].mode)", KvmPitState2.ModeOffset),
        ("KVM_EXIT_IO", Kvm.ExitIo), ("KVM_EXIT_DEBUG", Kvm.ExitDebug), ("KVM_EXIT_HLT", Kvm.ExitHlt), ("KVM_EXIT_MMIO", Kvm.ExitMmio),
        ("KVM_EXIT_IRQ_WINDOW_OPEN", Kvm.ExitIrqWindowOpen), ("KVM_EXIT_SHUTDOWN", Kvm.ExitShutdown), ("KVM_EXIT_FAIL_ENTRY", Kvm.ExitFailEntry),
        ("KVM_EXIT_INTR", Kvm.ExitIntr), ("KVM_EXIT_SET_TPR", Kvm.ExitSetTpr), ("KVM_EXIT_INTERNAL_ERROR", Kvm.ExitInternalError),
        ("KVM_EXIT_SYSTEM_EVENT", Kvm.ExitSystemEvent), ("KVM_MEM_LOG_DIRTY_PAGES", Kvm.MemLogDirtyPages), ("KVM_MEM_READONLY", Kvm.MemReadOnly),
        ("KVM_GUESTDBG_ENABLE", Kvm.GuestDebugEnable), ("KVM_GUESTDBG_SINGLESTEP", Kvm.GuestDebugSingleStep), ("KVM_EXIT_IO_OUT", Kvm.IoOut),
        ("KVM_VCPUEVENT_VALID_NMI_PENDING", Kvm.VcpuEventValidNmiPending), ("KVM_VCPUEVENT_VALID_SHADOW", Kvm.VcpuEventValidShadow),
        ("KVM_X86_SHADOW_INT_MOV_SS", Kvm.ShadowMovSs), ("KVM_X86_SHADOW_INT_STI", Kvm.ShadowSti),
        ("sizeof(struct kvm_regs)", Size<KvmRegs>()), ("sizeof(struct kvm_segment)", Size<KvmSegment>()), ("sizeof(struct kvm_dtable)", Size<KvmDtable>()),
        ("sizeof(struct kvm_sregs)", Size<KvmSregs>()), ("sizeof(struct kvm_userspace_memory_region)", Size<KvmUserspaceMemoryRegion>()),
        ("sizeof(struct kvm_dirty_log)", Size<KvmDirtyLog>()), ("sizeof(struct kvm_translation)", Size<KvmTranslation>()),
        ("sizeof(struct kvm_debugregs)", Size<KvmDebugRegs>()), ("sizeof(struct kvm_guest_debug)", Size<KvmGuestDebug>()),
        ("sizeof(struct kvm_msr_entry)", Size<KvmMsrEntry>()), ("sizeof(struct kvm_cpuid_entry2)", Size<KvmCpuidEntry2>()),
        ("sizeof(struct kvm_vcpu_events)", Size<KvmVcpuEvents>()), ("sizeof(struct kvm_xcrs)", Size<KvmXcrs>()), ("sizeof(struct kvm_run)", Size<KvmRun>()),
    ];

    private static readonly (string Struct, string Field, Type Ours, string OurField)[] Offsets =
    [
        ("kvm_regs", "rsi", typeof(KvmRegs), "Rsi"), ("kvm_regs", "rsp", typeof(KvmRegs), "Rsp"), ("kvm_regs", "r8", typeof(KvmRegs), "R8To15"),
        ("kvm_regs", "rip", typeof(KvmRegs), "Rip"), ("kvm_regs", "rflags", typeof(KvmRegs), "Rflags"),
        ("kvm_segment", "selector", typeof(KvmSegment), "Selector"), ("kvm_segment", "type", typeof(KvmSegment), "Type"), ("kvm_segment", "dpl", typeof(KvmSegment), "Dpl"),
        ("kvm_segment", "db", typeof(KvmSegment), "Db"), ("kvm_segment", "l", typeof(KvmSegment), "L"), ("kvm_segment", "unusable", typeof(KvmSegment), "Unusable"),
        ("kvm_sregs", "ss", typeof(KvmSregs), "Ss"), ("kvm_sregs", "tr", typeof(KvmSregs), "Tr"), ("kvm_sregs", "gdt", typeof(KvmSregs), "Gdt"),
        ("kvm_sregs", "cr0", typeof(KvmSregs), "Cr0"), ("kvm_sregs", "efer", typeof(KvmSregs), "Efer"), ("kvm_sregs", "apic_base", typeof(KvmSregs), "ApicBase"),
        ("kvm_sregs", "interrupt_bitmap", typeof(KvmSregs), "InterruptBitmap"),
        ("kvm_vcpu_events", "interrupt", typeof(KvmVcpuEvents), "InterruptInjected"), ("kvm_vcpu_events", "nmi", typeof(KvmVcpuEvents), "NmiInjected"),
        ("kvm_vcpu_events", "flags", typeof(KvmVcpuEvents), "Flags"), ("kvm_vcpu_events", "smi", typeof(KvmVcpuEvents), "SmiSmm"),
        ("kvm_irq_level", "level", typeof(KvmIrqLevel), "Level"), ("kvm_msi", "data", typeof(KvmMsi), "Data"), ("kvm_irqchip", "chip", typeof(KvmIrqchip), "State"),
        ("kvm_pit_state2", "flags", typeof(KvmPitState2), "Flags"), ("kvm_clock_data", "host_tsc", typeof(KvmClockData), "HostTsc"),
        ("kvm_irqfd", "resamplefd", typeof(KvmIrqfd), "ResampleFd"), ("kvm_ioeventfd", "fd", typeof(KvmIoeventfd), "Fd"), ("kvm_ioeventfd", "flags", typeof(KvmIoeventfd), "Flags"),
        ("kvm_irq_routing_entry", "u.irqchip.pin", typeof(KvmIrqRoute), "PinOrAddressHigh"), ("kvm_irq_routing_entry", "u.msi.data", typeof(KvmIrqRoute), "Data"),
        ("kvm_xcrs", "xcrs[0].value", typeof(KvmXcrs), "Xcr0"),
        ("kvm_run", "request_interrupt_window", typeof(KvmRun), "RequestInterruptWindow"), ("kvm_run", "immediate_exit", typeof(KvmRun), "ImmediateExit"),
        ("kvm_run", "exit_reason", typeof(KvmRun), "ExitReason"), ("kvm_run", "ready_for_interrupt_injection", typeof(KvmRun), "ReadyForInterruptInjection"),
        ("kvm_run", "if_flag", typeof(KvmRun), "IfFlag"), ("kvm_run", "cr8", typeof(KvmRun), "Cr8"), ("kvm_run", "apic_base", typeof(KvmRun), "ApicBase"),
        ("kvm_run", "io.direction", typeof(KvmRun), "IoDirection"), ("kvm_run", "io.port", typeof(KvmRun), "IoPort"), ("kvm_run", "io.count", typeof(KvmRun), "IoCount"),
        ("kvm_run", "io.data_offset", typeof(KvmRun), "IoDataOffset"), ("kvm_run", "mmio.phys_addr", typeof(KvmRun), "MmioAddress"),
        ("kvm_run", "mmio.data", typeof(KvmRun), "MmioData"), ("kvm_run", "mmio.len", typeof(KvmRun), "MmioLength"), ("kvm_run", "mmio.is_write", typeof(KvmRun), "MmioIsWrite"),
        ("kvm_run", "internal.suberror", typeof(KvmRun), "InternalSubError"), ("kvm_run", "fail_entry.hardware_entry_failure_reason", typeof(KvmRun), "HardwareReason"),
        ("kvm_run", "msr.error", typeof(KvmRun), "MsrError"), ("kvm_run", "msr.reason", typeof(KvmRun), "MsrReason"), ("kvm_run", "msr.index", typeof(KvmRun), "MsrIndex"),
        ("kvm_run", "msr.data", typeof(KvmRun), "MsrData"), ("kvm_msr_filter", "ranges", typeof(KvmMsrFilter), "Ranges"),
        ("kvm_msr_filter_range", "bitmap", typeof(KvmMsrFilterRange), "Bitmap"), ("kvm_enable_cap", "args", typeof(KvmEnableCap), "Args"), ("kvm_device_attr", "addr", typeof(KvmDeviceAttr), "Addr"),
        ("kvm_run", "debug.arch.exception", typeof(KvmRun), "DebugException"), ("kvm_run", "debug.arch.pc", typeof(KvmRun), "DebugPc"), ("kvm_run", "debug.arch.dr6", typeof(KvmRun), "DebugDr6"),
    ];

    [Fact]
    public void Numbers_sizes_and_offsets_are_the_kernels()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && File.Exists("/usr/include/linux/kvm.h"), "No <linux/kvm.h> on this machine (Debian: linux-libc-dev).");
        Assert.SkipUnless(File.Exists("/usr/bin/cc") || File.Exists("/usr/bin/gcc"), "No C compiler on this machine.");
        string[] expressions = [.. Numbers.Select(n => n.C), .. Offsets.Select(o => $"offsetof(struct {o.Struct}, {o.Field})")];
        ulong[] theirs = AskCompiler(expressions);
        ulong[] ours = [.. Numbers.Select(n => (ulong)n.Ours), .. Offsets.Select(o => (ulong)(nint)Marshal.OffsetOf(o.Ours, o.OurField))];
        for (int i = 0; i < expressions.Length; i++)
            Assert.True(theirs[i] == ours[i], $"{expressions[i]} is 0x{theirs[i]:X}, ours 0x{ours[i]:X}");
    }

    private static uint Size<T>() => (uint)System.Runtime.CompilerServices.Unsafe.SizeOf<T>();

    private static ulong[] AskCompiler(string[] expressions)
    {
        string folder = Directory.CreateTempSubdirectory("virtps-uapi").FullName;
        try
        {
            string source = Path.Combine(folder, "ask.c"), program = Path.Combine(folder, "ask");
            File.WriteAllText(source, "#include <stddef.h>\n#include <stdio.h>\n#include <linux/kvm.h>\nint main(void) {\n"
                + string.Concat(expressions.Select(e => $"printf(\"%llu\\n\", (unsigned long long)({e}));\n")) + "return 0; }\n");
            Run(File.Exists("/usr/bin/cc") ? "/usr/bin/cc" : "/usr/bin/gcc", ["-o", program, source]);
            return [.. Run(program, []).Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => ulong.Parse(l, CultureInfo.InvariantCulture))];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Run(string program, string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        string output = process.StandardOutput.ReadToEnd(), errors = process.StandardError.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, errors);
        return output;
    }
}
