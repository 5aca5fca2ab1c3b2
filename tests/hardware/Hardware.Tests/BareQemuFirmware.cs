using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Hardware.Tests;

/// <summary>64 KiB of firmware that brings a processor from reset to 64-bit mode, on tables of its own, and from there with VMRUN into a guest: <see cref="BareQemuVmcb"/> says which.</summary>
internal static unsafe class BareQemuFirmware
{
    private const int Size = 0x10000, LongMode = 0x100, Gdt = 0x8000, GdtPointer = 0x8100, ResetVector = 0xFFF0;
    private const ushort Code64 = 8;
    private const ulong Origin = 0x1_0000_0000 - Size;

    private const uint HostSaveMsr = 0xC001_0117, Svme = 1 << 12;

    private static readonly Gpr[] s_registers = [Gpr.Rbx, Gpr.Rbp, Gpr.Rsi, Gpr.Rdi, Gpr.R8, Gpr.R9, Gpr.R10, Gpr.R11, Gpr.R12, Gpr.R13, Gpr.R14, Gpr.R15, Gpr.Rcx, Gpr.Rdx];

    public static byte[] Build(VcpuState* guest)
    {
        var image = new byte[Size];
        Put(image, 0, 16, 0, FromReset);
        Put(image, LongMode, 64, Origin + LongMode, c => EnterGuest(c, guest));
        // jmp near 0
        new byte[] { 0xE9, unchecked((byte)-(ResetVector + 3)), unchecked((byte)(-(ResetVector + 3) >> 8)) }.CopyTo(image, ResetVector);
        BitConverter.TryWriteBytes(image.AsSpan(Gdt + Code64), 0x00AF_9B00_0000_FFFF);
        BitConverter.TryWriteBytes(image.AsSpan(GdtPointer), (ushort)0xF);
        BitConverter.TryWriteBytes(image.AsSpan(GdtPointer + 2), Origin + Gdt);
        return image;
    }

    /// <summary>16-bit code in the reset vector's own CS, whose base is <see cref="Origin"/>.</summary>
    private static void FromReset(Assembler c)
    {
        // lgdt cs:[GdtPointer] with a base of 32 bits
        c.db(0x66, 0x2E, 0x0F, 0x01, 0x16, GdtPointer & 0xFF, GdtPointer >> 8);
        c.mov(eax, (uint)(Cr4.PAE | Cr4.OSFXSR | Cr4.OSXSAVE));
        c.mov(cr4, eax);
        c.mov(eax, BareQemuVmcb.PageTables);
        c.mov(cr3, eax);
        WriteMsr(c, Msr.Efer, Efer.LME | Svme);
        c.mov(eax, (uint)(Cr0.PE | Cr0.ET | Cr0.NE | Cr0.PG));
        c.mov(cr0, eax);
        // jmp far dword Code64:(Origin + LongMode)
        uint target = (uint)(Origin + LongMode);
        c.db(0x66, 0xEA, (byte)target, (byte)(target >> 8), (byte)(target >> 16), (byte)(target >> 24), (byte)Code64, 0);
    }

    /// <summary>The control block has all but the general registers, DR0 to DR3 and the registers of x87, SSE and AVX.</summary>
    private static void EnterGuest(Assembler c, VcpuState* s)
    {
        WriteMsr(c, HostSaveMsr, BareQemuVmcb.HostSave);
        BreakpointAddresses(c, s);
        SetXcr0(c, BareQemuVmcb.AllComponents);
        c.mov(eax, BareQemuVmcb.AllComponents);
        c.xrstor(__[(ulong)BareQemuVmcb.Xsave]);
        SetXcr0(c, (uint)s->Xcr0);
        c.mov(eax, BareQemuVmcb.Address);
        c.vmload();
        foreach (Gpr register in s_registers)
            c.mov(new AssemblerRegister64(Register.RAX + (int)register), s->Gpr[(int)register]);
        c.mov(eax, BareQemuVmcb.Address);
        c.vmrun();
        c.vmsave();
        c.mov(__qword_ptr[(ulong)BareQemuVmcb.SavedRdx], rdx);
        c.mov(__qword_ptr[(ulong)BareQemuVmcb.SavedRdx + 8], rcx);
        c.xor(ecx, ecx);
        c.xgetbv();
        c.mov(__dword_ptr[(ulong)BareQemuVmcb.SavedXcr0], eax);
        SetXcr0(c, BareQemuVmcb.AllComponents);
        c.mov(eax, BareQemuVmcb.AllComponents);
        c.xsave(__[(ulong)BareQemuVmcb.Xsave]);
        c.mov(rdx, __qword_ptr[(ulong)BareQemuVmcb.SavedRdx]);
        c.mov(rcx, __qword_ptr[(ulong)BareQemuVmcb.SavedRdx + 8]);
        c.hlt();
    }

    /// <summary>Leaves EDX 0.</summary>
    private static void SetXcr0(Assembler c, uint value)
    {
        c.xor(ecx, ecx);
        c.xor(edx, edx);
        c.mov(eax, value);
        c.xsetbv();
    }

    private static void BreakpointAddresses(Assembler c, VcpuState* s)
    {
        foreach ((AssemblerRegisterDR register, ulong value) in ((AssemblerRegisterDR, ulong)[])[(dr0, s->Dr0), (dr1, s->Dr1), (dr2, s->Dr2), (dr3, s->Dr3)])
        {
            c.mov(rax, value);
            c.mov(register, rax);
        }
    }

    private static void WriteMsr(Assembler c, uint msr, ulong value)
    {
        c.mov(ecx, msr);
        c.mov(eax, (uint)value);
        c.mov(edx, (uint)(value >> 32));
        c.wrmsr();
    }

    private static void Put(byte[] image, int at, int bitness, ulong rip, Action<Assembler> code)
    {
        var assembler = new Assembler(bitness);
        code(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), rip);
        stream.ToArray().CopyTo(image, at);
    }
}
