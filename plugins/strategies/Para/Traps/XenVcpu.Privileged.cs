using VirtPS.Sdk.Cpu;
using VirtPS.Sdk;
using VirtPS.X86;

namespace VirtPS.Strategy.Para;

// Instructions of ring 0 that a guest kernel still executes: emulated as Xen does. In a program they are what they are, #GP.
internal sealed unsafe partial class XenVcpu
{
    /// <summary>UD2, "xen": CPUID follows and is to be emulated even where the processor would execute it.</summary>
    private static ReadOnlySpan<byte> ForcedEmulation => [0x0F, 0x0B, 0x78, 0x65, 0x6E, 0x0F, 0xA2];

    private const ulong PatValue = 0x0000_0501_0007_0406, ApicBaseValue = 0xFEE0_0900;
    /// <summary>HWCR.TscFreqSel; EFER.AutoIBRS (AMD APM Vol. 2 §3.1.7).</summary>
    private const ulong TscAtP0Frequency = 1ul << 24, AutoIbrs = 1ul << 21;

    private const ulong Cr4GuestBits = Cr4.TSD | Cr4.DE | Cr4.FSGSBASE | Cr4.OSXSAVE;

    /// <summary>CPUID.1:ECX.</summary>
    private const uint Xsave = 1u << 26, Osxsave = 1u << 27;

    /// <summary>CPUID.7:EBX.</summary>
    private const uint FsGsBase = 1u << 0;

    private bool EmulatePrefixed(VcpuState* s)
    {
        byte* code = stackalloc byte[16];
        if (FetchKernelCode(s, code) < ForcedEmulation.Length || !new ReadOnlySpan<byte>(code, ForcedEmulation.Length).SequenceEqual(ForcedEmulation))
            return false;
        uint leaf = (uint)s->Gpr[(int)Gpr.Rax];
        CpuidResult r = Cpu.Cpuid(leaf, (uint)s->Gpr[(int)Gpr.Rcx]);
        // Kernels look here whether Xen lets them use XSAVE, before they set CR4.OSXSAVE: they see Xen's own bit (xen/arch/x86/cpuid.c).
        if (leaf == 1 && (r.Ecx & Xsave) != 0)
            r = r with { Ecx = r.Ecx | Osxsave };
        (s->Gpr[(int)Gpr.Rax], s->Gpr[(int)Gpr.Rbx], s->Gpr[(int)Gpr.Rcx], s->Gpr[(int)Gpr.Rdx]) = (r.Eax, r.Ebx, r.Ecx, r.Edx);
        s->Rip += (ulong)ForcedEmulation.Length;
        Cpu.Counters->PrivilegedInstructions++;
        return true;
    }

    /// <summary>Up to 15 bytes of code at RIP, as far as they are mapped; how many.</summary>
    internal int FetchKernelCode(VcpuState* s, byte* code)
    {
        if (!s->CS.IsLong || s->GuestKernel == 0)
            return 0;
        int n = (int)Math.Min(15, 4096 - (s->Rip & 4095));
        if (!CopyFrom(s->Rip, code, n))
            return 0;
        return n < 15 && CopyFrom(s->Rip + (ulong)n, code + n, 15 - n) ? 15 : n;
    }

    /// <summary>False: it is the guest's #GP.</summary>
    private bool EmulatePrivileged(VcpuState* s)
    {
        byte* code = stackalloc byte[16];
        int length = FetchKernelCode(s, code);
        int at = 0, size = 4, rex = 0;
        bool repeat = false;
        for (; at < length; at++)
        {
            if (code[at] == 0x66)
                size = 2;
            else if (code[at] is 0xF2 or 0xF3)
                repeat = true;
            else if (code[at] is not (0x2E or 0x36 or 0x3E or 0x26 or 0x64 or 0x65))
                break;
        }

        if (at < length && (code[at] & 0xF0) == 0x40)
            rex = code[at++];
        // The longest of these has three bytes after its prefixes.
        if (at + 3 > length)
            return false;
        byte op = code[at++];
        bool done = op switch
        {
            0xFA or 0xFB => true, // CLI, STI: the guest's interrupt flag is its event mask.
            0xE4 or 0xE5 or 0xEC or 0xED => PortRead(s, op is 0xE4 or 0xEC ? 1 : size, (op & 8) != 0 ? (ushort)s->Gpr[(int)Gpr.Rdx] : code[at++]),
            0xE6 or 0xE7 or 0xEE or 0xEF => (op & 8) != 0 || at++ > 0,
            0x6C or 0x6D or 0x6E or 0x6F => StringPort(s, op, op is 0x6C or 0x6E ? 1 : size, repeat, ref at),
            0x0F => TwoByte(s, code, ref at, rex),
            _ => false,
        };
        if (!done)
            return false;
        s->Rip += (ulong)at;
        Cpu.Counters->PrivilegedInstructions++;
        return true;
    }

    private bool TwoByte(VcpuState* s, byte* code, ref int at, int rex)
    {
        byte op = code[at++];
        switch (op)
        {
            case 0x01:
                return code[at++] == 0xD1 && SetExtendedControl(s, (uint)s->Gpr[(int)Gpr.Rcx], (uint)s->Gpr[(int)Gpr.Rax] | s->Gpr[(int)Gpr.Rdx] << 32);
            case 0x06:
                s->Cr0 &= ~Cr0.TS;
                return true;
            case 0x08 or 0x09:
                return true;
            case 0x30:
                return WriteMsr(s, (uint)s->Gpr[(int)Gpr.Rcx], (uint)s->Gpr[(int)Gpr.Rax] | s->Gpr[(int)Gpr.Rdx] << 32);
            case 0x32:
                if (!ReadMsr(s, (uint)s->Gpr[(int)Gpr.Rcx], out ulong value))
                    return false;
                (s->Gpr[(int)Gpr.Rax], s->Gpr[(int)Gpr.Rdx]) = ((uint)value, value >> 32);
                return true;
            case 0x20 or 0x21 or 0x22 or 0x23:
                byte modrm = code[at++];
                ref ulong gpr = ref s->Gpr[(modrm & 7) | (rex & 1) << 3];
                int register = (modrm >> 3 & 7) | (rex & 4) << 1;
                return op switch
                {
                    0x20 => ReadControl(s, register, out gpr),
                    0x22 => WriteControl(s, register, gpr),
                    0x21 => GetDebugRegister(s, register, out gpr),
                    _ => SetDebugRegister(s, register, gpr),
                };
            default:
                return false;
        }
    }

    /// <summary>A domain without devices: every port reads as all ones, but the timer's, or its calibration would spin on it.</summary>
    private static bool PortRead(VcpuState* s, int size, ushort port)
    {
        ulong value = port is >= 0x40 and <= 0x43 ? 0 : ulong.MaxValue;
        ulong old = s->Gpr[(int)Gpr.Rax];
        s->Gpr[(int)Gpr.Rax] = size switch
        {
            1 => (old & ~0xFFul) | (byte)value,
            2 => (old & ~0xFFFFul) | (ushort)value,
            _ => (uint)value,
        };
        return true;
    }

    private bool StringPort(VcpuState* s, byte op, int size, bool repeat, ref int at)
    {
        ulong count = repeat ? s->Gpr[(int)Gpr.Rcx] : 1;
        int index = op >= 0x6E ? (int)Gpr.Rsi : (int)Gpr.Rdi;
        ulong step = (s->Rflags & Rflags.DF) != 0 ? (ulong)-size : (ulong)size;
        // A page at a time keeps a call short; what is left is met again.
        ulong todo = Math.Min(count, 4096);
        for (ulong i = 0; i < todo; i++)
        {
            ulong ones = ulong.MaxValue;
            if (op < 0x6E && !CopyTo(s->Gpr[index], &ones, size))
                return false;
            s->Gpr[index] += step;
            if (repeat)
                s->Gpr[(int)Gpr.Rcx]--;
        }

        if (todo != count)
            at = 0;
        return true;
    }

    private static bool ReadControl(VcpuState* s, int register, out ulong value)
    {
        value = register switch
        {
            0 => 0x8005_0033 | s->Cr0 & Cr0.TS,
            2 => s->Cr2,
            3 => s->Cr3,
            4 => 0x620 | s->Cr4 & Cr4GuestBits,
            _ => 0,
        };
        return register is 0 or 2 or 3 or 4;
    }

    private bool WriteControl(VcpuState* s, int register, ulong value)
    {
        switch (register)
        {
            case 0:
                s->Cr0 = (s->Cr0 & ~Cr0.TS) | (value & Cr0.TS);
                return true;
            case 2:
                s->Cr2 = Info->Cr2 = value;
                return true;
            case 3:
                return SetKernelRoot(s, (value & PageBits.AddressMask) >> 12) == 0;
            case 4:
                ulong settable = Cr4.TSD | Cr4.DE | ((Cpu.Cpuid(1, 0).Ecx & Xsave) != 0 ? Cr4.OSXSAVE : 0) | ((Cpu.Cpuid(7, 0).Ebx & FsGsBase) != 0 ? Cr4.FSGSBASE : 0);
                s->Cr4 = (s->Cr4 & ~settable) | (value & settable);
                return true;
            default:
                return false;
        }
    }

    /// <summary>XSETBV (SDM Vol. 2D): XCR0 alone, by the processor's own rules.</summary>
    private bool SetExtendedControl(VcpuState* s, uint index, ulong value)
    {
        CpuidResult offered = Cpu.Cpuid(0xD, 0);
        if (index != 0 || !Xcr0.IsValid(value, offered.Eax | (ulong)offered.Edx << 32))
            return false;
        s->Xcr0 = value;
        return true;
    }

    private static bool ReadMsr(VcpuState* s, uint msr, out ulong value)
    {
        (bool known, value) = msr switch
        {
            Msr.FsBase => (true, s->FS.Base),
            Msr.GsBase => (true, s->GS.Base),
            Msr.KernelGsBase => (true, s->KernelGsBase),
            Msr.Pat => (true, PatValue),
            Msr.ApicBase => (true, ApicBaseValue),
            Msr.Efer => (true, s->Efer),
            Msr.BiosSignId => (true, 0ul),
            Msr.TscAux => (true, s->TscAux),
            Msr.HwCr => (true, TscAtP0Frequency),
            _ => (false, 0ul),
        };
        return known;
    }

    private static bool WriteMsr(VcpuState* s, uint msr, ulong value)
    {
        bool canonical = IsCanonical(value);
        switch (msr)
        {
            case Msr.FsBase when canonical:
                s->FS.Base = value;
                return true;
            case Msr.GsBase when canonical:
                s->GS.Base = value;
                return true;
            case Msr.KernelGsBase when canonical:
                s->KernelGsBase = value;
                return true;
            case Msr.Efer:
                // Nothing speculates here: the bit is kept, as for any other guest of this processor.
                if (((value ^ s->Efer) & ~AutoIbrs) != 0)
                    return false;
                s->Efer = value;
                return true;
            case Msr.BiosSignId:
                return true;
            case Msr.TscAux when value >> 32 == 0:
                s->TscAux = (uint)value;
                return true;
            default:
                return false;
        }
    }

    private static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
