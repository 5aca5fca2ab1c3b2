using Iced.Intel;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Lockstep;

// What the random sequences leave out, or of which they leave a part out, because QEMU's processor differs in it.
public static unsafe partial class PrivilegedCases
{
    private const uint Operand = Free, Result = Free + 0x40, Indices = Free + 0x80, Mask = Free + 0xC0;

    /// <summary>For kernels or not: what the random sequences leave out, for an emulated processor differs in it.</summary>
    private static IEnumerable<LockstepCase> Unprivileged()
    {
        const ulong TestUndefined = Rflags.AF;
        yield return new("TEST by F6 /1", c => { c.mov(eax, 0x81); c.db(0xF6, 0xC8, 0x80); c.hlt(); }, UndefinedFlags: TestUndefined);
        yield return new("TEST by F7 /1", c => { c.mov(eax, 0x81); c.db(0xF7, 0xC8, 1, 0, 0, 0); c.hlt(); }, UndefinedFlags: TestUndefined);
        // CF is 1 when the source is not 0 (SDM Vol. 2A).
        yield return new("BLSI", c => { c.mov(ecx, 0x30); c.blsi(eax, ecx); c.hlt(); }, UndefinedFlags: Rflags.AF | Rflags.PF);
        // AMD's processors leave the whole register alone (APM Vol. 3), and so do we.
        yield return new("BSR of 0", c => { c.mov(r8, 0x8234_5678_9ABC_DEF0); c.xor(ecx, ecx); c.bsr(r8d, ecx); c.hlt(); }, UndefinedFlags: Rflags.CF | Rflags.OF | Rflags.SF | Rflags.AF | Rflags.PF);
        yield return new("BSF of 0", c => { c.mov(r8, 0x8234_5678_9ABC_DEF0); c.xor(ecx, ecx); c.bsf(r8d, ecx); c.hlt(); }, UndefinedFlags: Rflags.CF | Rflags.OF | Rflags.SF | Rflags.AF | Rflags.PF);
        // NOPs with a register (APM Vol. 3): 0F 18 /0 and /3, then /4, which agrees.
        yield return new("NOP by 0F 18 /0", c => { c.db(0x49, 0x0F, 0x18, 0xC7); c.hlt(); });
        yield return new("NOP by 0F 18 /3", c => { c.db(0x66, 0x0F, 0x18, 0xDF); c.hlt(); });
        yield return new("0F 18 /4 is a NOP", c => { c.db(0x0F, 0x18, 0xE0); c.hlt(); });
        yield return DoubleShift("SHLD by an immediate, relative to RIP", 0xA4);
        yield return DoubleShift("SHRD by an immediate, relative to RIP", 0xAC);
        foreach (LockstepCase guest in AddWithCarry().Concat(Gathers()).Concat(X87Loads()))
            yield return guest;
    }

    /// <summary>SHLD or SHRD of [Operand] and EAX by 8: the displacement counts from behind the immediate.</summary>
    private static LockstepCase DoubleShift(string name, byte opcode) => new(name, c =>
    {
        const int Displacement = (int)(Operand - (ConformanceMachine.CodeAddress + 5 + 8));
        c.mov(eax, 0x1234_5678);
        c.db(0x0F, opcode, 0x05, unchecked((byte)Displacement), unchecked((byte)(Displacement >> 8)), unchecked((byte)(Displacement >> 16)), Displacement >> 24, 8);
        c.hlt();
    }, m => m.Write64(Operand, 0x8765_4321), UndefinedFlags: Rflags.AF | Rflags.OF);

    /// <summary>The upper halves take no part in an addition of 32 bits.</summary>
    private static IEnumerable<LockstepCase> AddWithCarry()
    {
        static void Operands(Assembler c)
        {
            c.mov(rax, 0x8000_0001_0000_0001);
            c.mov(rbx, 0x9000_0002_0000_0002);
            c.xor(ecx, ecx);
        }

        yield return new("ADCX of 32 bits", c => { Operands(c); c.adcx(eax, ebx); c.hlt(); });
        yield return new("ADOX of 32 bits", c => { Operands(c); c.adox(eax, ebx); c.hlt(); });
        yield return new("64-bit ADCX and ADOX", c => { Operands(c); c.adcx(rax, rbx); c.adox(rbx, rax); c.hlt(); });
    }

    /// <summary>Index register 4 is an index like any other: without VSIB its number means none (SDM Vol. 2A, VSIB).</summary>
    private static IEnumerable<LockstepCase> Gathers()
    {
        static LockstepCase Gather(string name, AssemblerRegisterXMM index) => new(name, c =>
        {
            c.vmovdqu(index, __xmmword_ptr[Indices]);
            c.vmovdqu(xmm2, __xmmword_ptr[Mask]);
            c.vpxor(xmm0, xmm0, xmm0);
            c.mov(ebx, Operand);
            c.vpgatherdd(xmm0, __xmmword_ptr[rbx + index * 4], xmm2);
            c.vmovdqu(__xmmword_ptr[Result], xmm0);
            c.hlt();
        }, GatherOperands);
        yield return Gather("gather by index register 4", xmm4);
        yield return Gather("gather by another index register", xmm5);
    }

    private static void GatherOperands(ConformanceMachine m)
    {
        m.State->Cr4 |= Cr4.OSXSAVE;
        m.State->Xcr0 = Xcr0.X87 | Xcr0.Sse | Xcr0.Avx;
        m.Write64(Operand, 0x2222_2222_1111_1111);
        m.Write64(Operand + 8, 0x4444_4444_3333_3333);
        m.Write64(Indices, 3ul | 2ul << 32);
        m.Write64(Indices + 8, 1ul);
        m.Write64(Mask, 0x8000_0000_8000_0000);
        m.Write64(Mask + 8, 0x8000_0000_8000_0000);
    }

    /// <summary>Loads of what x87 does not keep as it is: FCW bits 6 to 7 and 13 to 15 are fixed, ES and B follow from the rest, an MMX register's exponent is all ones (SDM Vol. 1 §8.1, §9.5.1).</summary>
    private static IEnumerable<LockstepCase> X87Loads()
    {
        yield return new("FLDCW: reserved bits", c => { c.fldcw(__word_ptr[Operand]); c.fnstcw(__word_ptr[Result]); c.hlt(); }, m => m.Write64(Operand, 0xF03F));
        yield return new("FXRSTOR: FCW's reserved bits, FSW's ES and B", c =>
        {
            c.fxrstor(__[Operand]);
            c.fnstcw(__word_ptr[Result - 4]);
            c.fnstsw(__word_ptr[Result - 2]);
            c.hlt();
        }, m =>
        {
            m.Write(Operand, new byte[512]);
            m.Write64(Operand, 0x8080_F03F);
            m.Write64(Operand + 24, 0x1F80);
        });
        // SDM Vol. 2A: they are cleared whatever is compared.
        yield return new("FCOMI clears OF, SF and AF", c => { c.push((int)(Rflags.Fixed1 | Rflags.OF | Rflags.SF | Rflags.AF)); c.popfq(); c.fldz(); c.fldz(); c.fcomi(st0, st1); c.hlt(); });
        yield return new("MMX: the exponent", c => { c.movq(mm0, __qword_ptr[Operand]); c.fstp(__tbyte_ptr[Result]); c.hlt(); }, m => m.Write64(Operand, 0x8123_4567_89AB_CDEF));
    }
}
