using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// Where guest registers are while generated code runs. The host's RSP points at the vCPU's memory, R10 and R11 are scratch, guest RSP is in R9; guest R9–R11 (the
/// least used ones in compiled code) stay in memory. Everything else is where it is in the guest, so that most instructions are copied as they are.
/// </summary>
internal static class RegisterMap
{
    public const HostReg Scratch0 = HostReg.R10, Scratch1 = HostReg.R11, GuestRsp = HostReg.R9;

    public static bool InMemory(int guest) => guest is >= 9 and <= 11;

    /// <summary>The host register of a guest register that is in one.</summary>
    public static HostReg Host(int guest) => guest == 4 ? GuestRsp : (HostReg)guest;

    /// <summary>The place of a guest register in the state.</summary>
    public static HostMemory Slot(int guest) => HostMemory.State(VcpuMemory.StateOffset + guest * 8);
}
