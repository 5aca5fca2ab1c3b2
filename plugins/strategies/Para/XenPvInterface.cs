using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Para;

/// <summary>The guest knows that it is a Xen PV domain: its kernel runs in ring 3 and asks by hypercall.</summary>
internal sealed class XenPvInterface : IGuestInterface
{
    private static readonly string?[] s_names =
    [
        "set_trap_table", "mmu_update", "set_gdt", "stack_switch", "set_callbacks", "fpu_taskswitch", "sched_op_compat", "platform_op", "set_debugreg", "get_debugreg", "update_descriptor", null,
        "memory_op", "multicall", "update_va_mapping", "set_timer_op", "event_channel_op_compat", "xen_version", "console_io", "physdev_op_compat", "grant_table_op", "vm_assist",
        "update_va_mapping_otherdomain", "iret", "vcpu_op", "set_segment_base", "mmuext_op", "xsm_op", "nmi_op", "sched_op", "callback_op", "xenoprof_op", "event_channel_op", "physdev_op", "hvm_op",
        "sysctl", "domctl", "kexec_op", "tmem_op", "argo_op", "xenpmu_op", "dm_op", "hypfs_op",
    ];

    public string Name => "Xen PV";

    public bool IsPc => false;

    public IGuestPlatform? CreatePlatform(GuestPlatformContext context) => new XenDomain(context);

    public string? HypercallName(int number) => number >= 0 && number < s_names.Length ? s_names[number] : null;

    /// <summary>VMCALL is no hypercall of a Xen PV guest.</summary>
    public unsafe bool Hypercall(IVcpu vcpu, VcpuState* state) => false;

    public unsafe int GuestRing(VcpuState* state) => state->GuestKernel != 0 ? 0 : 3;

    public string ClassicalRing(int guestRing) => guestRing switch
    {
        0 => "Ring 1 (kernel, calling down by hypercall to a VMM in ring 0)",
        _ => $"Ring {guestRing}",
    };
}
