using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>Code for <see cref="TestDomain"/>, at its entry.</summary>
internal static class PvCode
{
    public static byte[] Assemble(Action<Assembler> write)
    {
        var a = new Assembler(64);
        write(a);
        var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), PvImage.Entry);
        return stream.ToArray();
    }

    /// <summary>A hypercall whose arguments are in place.</summary>
    public static void Hypercall(this Assembler a, int number)
    {
        a.mov(eax, number);
        a.syscall();
    }

    /// <summary>sched_op(shutdown, power off); <paramref name="scratch"/> is a linear address of 4 bytes.</summary>
    public static void PowerOff(this Assembler a, ulong scratch)
    {
        a.mov(rsi, scratch);
        a.mov(__dword_ptr[rsi], 0);
        a.mov(edi, 2);
        a.Hypercall(29);
        a.ud2();
    }

    /// <summary>CPUID as a kernel asks Xen for it.</summary>
    public static void ForcedCpuid(this Assembler a) => a.db(0x0F, 0x0B, 0x78, 0x65, 0x6E, 0x0F, 0xA2);
}
