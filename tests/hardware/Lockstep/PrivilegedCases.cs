using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Lockstep;

/// <summary>A guest that does what only kernels do, or what only kernels are asked for.</summary>
/// <param name="Name">Unique.</param>
/// <param name="Code">At <see cref="CodeAddress"/>; an exception's handler reports and halts.</param>
/// <param name="SetUp">Further state and memory, done to both.</param>
/// <param name="UndefinedFlags">Flags that some instruction in it leaves undefined.</param>
public sealed record LockstepCase(string Name, Action<Assembler> Code, Action<ConformanceMachine>? SetUp = null, ulong UndefinedFlags = 0)
{
    /// <summary>Enters at CPL 3.</summary>
    public bool User { get; init; }

    /// <summary>Puts <see cref="Code"/> into <paramref name="machine"/>.</summary>
    public unsafe void Prepare(ConformanceMachine machine)
    {
        machine.EnterLongMode(_ => { });
        if (User)
        {
            machine.State->CS = new SegmentRegister(UserCode64, 0, 0xFFFF_FFFF, 0xA0FB);
            machine.State->SS = new SegmentRegister(UserData, 0, 0xFFFF_FFFF, 0xC0F3);
            machine.State->Cpl = 3;
            machine.State->Gpr[(int)Gpr.Rsp] = UserStack;
        }

        machine.Write(CodeAddress, Assemble(Code, CodeAddress));
        SetUp?.Invoke(machine);
        machine.Vcpu.CommitState();
    }

    public static byte[] Assemble(Action<Assembler> code, ulong at)
    {
        var assembler = new Assembler(64);
        code(assembler);
        using var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), at);
        return stream.ToArray();
    }
}

/// <summary>The cases written by hand.</summary>
public static unsafe partial class PrivilegedCases
{
    private const uint Free = DataAddress;

    // Free descriptors of the table: 48h up.
    private const ushort Ldt = 0x48, OtherTss = 0x58, CallGate = 0x68;

    private const uint SystemCode = CodeAddress + 0x4000;

    public static IReadOnlyList<LockstepCase> All { get; } = [.. Control(), .. Segments(), .. Transfers(), .. Registers(), .. Faults(), .. Flags(), .. Unprivileged()];

    private static IEnumerable<LockstepCase> Control()
    {
        yield return new("CR0: TS, MP, EM, NE, AM, WP", c =>
        {
            c.mov(rax, cr0);
            foreach (uint bit in (uint[])[8, 2, 4, 0x20, 0x4_0000, 0x1_0000])
            {
                c.mov(rbx, rax);
                c.xor(rbx, (int)bit);
                c.mov(cr0, rbx);
                c.mov(rcx, cr0);
            }

            c.clts();
            c.smsw(edx);
            c.mov(cr0, rax);
            c.mov(ebx, 0xF);
            c.lmsw(bx);
            c.smsw(rdx);
            c.mov(ebx, 0);
            c.lmsw(bx);
            c.mov(rdx, cr0);
            c.hlt();
        });
        foreach ((string what, ulong value) in ((string, ulong)[])[("PG without PE", 0x8000_0010), ("NW without CD", 0xA000_0031), ("upper half", 0x1_8000_0031), ("PG off in long mode", 0x31)])
            yield return new($"CR0 refused: {what}", c => { c.mov(rax, value); c.mov(cr0, rax); c.hlt(); });
        yield return new("CR0: reserved low bits are ignored", c => { c.mov(rax, cr0); c.or(rax, 0x1FF0_FFC0 & 0xFFC0); c.mov(cr0, rax); c.mov(rbx, cr0); c.hlt(); });
        yield return new("CR2 and CR3", c =>
        {
            c.mov(rax, 0x1234_5678_9ABC_DEF0);
            c.mov(cr2, rax);
            c.mov(rbx, cr2);
            c.mov(rcx, cr3);
            c.or(rcx, 0x18);
            c.mov(cr3, rcx);
            c.mov(rdx, cr3);
            c.hlt();
        });
        yield return new("CR3 refused: reserved bits", c => { c.mov(rax, 1ul << 60 | Pml4); c.mov(cr3, rax); c.hlt(); });
        yield return new("CR4: PGE, DE, TSD, PSE, PCE", c =>
        {
            c.mov(rax, cr4);
            foreach (int bit in (int[])[7, 3, 2, 4, 8])
            {
                c.mov(rbx, rax);
                c.bts(rbx, (sbyte)bit);
                c.mov(cr4, rbx);
                c.mov(rcx, cr4);
            }

            c.mov(cr4, rax);
            c.hlt();
        }, null, VirtPS.X86.Rflags.OF | VirtPS.X86.Rflags.SF | VirtPS.X86.Rflags.AF | VirtPS.X86.Rflags.PF);
        foreach ((string what, ulong bits) in ((string, ulong)[])[("reserved bit", 1ul << 15), ("PAE off in long mode", 0x20), ("upper half", 1ul << 40)])
            yield return new($"CR4 refused: {what}", c => { c.mov(rax, bits); c.mov(rbx, cr4); c.xor(rax, rbx); c.mov(cr4, rax); c.hlt(); });
        yield return new("CR8", c => { c.mov(eax, 9); c.mov(cr8, rax); c.mov(rbx, cr8); c.mov(eax, 0); c.mov(cr8, rax); c.hlt(); });
        yield return new("CR8 refused: more than four bits", c => { c.mov(eax, 0x10); c.mov(cr8, rax); c.hlt(); });
        yield return new("DR0 to DR3", c =>
        {
            c.mov(rax, 0x1234_5678_9ABC);
            c.mov(dr0, rax);
            c.inc(rax);
            c.mov(dr1, rax);
            c.mov(dr2, rax);
            c.mov(dr3, rax);
            c.mov(rbx, dr0);
            c.mov(rcx, dr3);
            c.hlt();
        });
        yield return new("DR7: fixed bits", c => { c.mov(eax, 0); c.mov(dr7, rax); c.mov(rbx, dr7); c.hlt(); });
        yield return new("DR7 refused: upper half", c => { c.mov(rax, 1ul << 32); c.mov(dr7, rax); c.hlt(); });
        yield return new("INVLPG, WBINVD", c =>
        {
            c.invlpg(__[(ulong)Free]);
            c.mov(rax, __qword_ptr[(ulong)Free]);
            c.wbinvd();
            c.hlt();
        });
        yield return new("a page entry changed and flushed", c =>
        {
            c.mov(rax, __qword_ptr[(ulong)Free]);
            c.mov(rbx, EntryOf(Free));
            c.mov(rcx, __qword_ptr[rbx]);
            c.and(rcx, -2);
            c.mov(__qword_ptr[rbx], rcx);
            c.invlpg(__[(ulong)Free]);
            c.mov(rax, __qword_ptr[(ulong)Free]);
            c.hlt();
        });
        yield return new("global page and CR3", c =>
        {
            c.mov(rax, cr4);
            c.or(rax, 0x80);
            c.mov(cr4, rax);
            c.mov(rbx, cr3);
            c.mov(cr3, rbx);
            c.mov(rax, __qword_ptr[(ulong)Free]);
            c.hlt();
        }, m => m.SetPage(Free, Free | 0x103));
        yield return new("XSETBV", c =>
        {
            c.mov(rax, cr4);
            c.bts(rax, 18);
            c.mov(cr4, rax);
            c.mov(ecx, 0);
            c.xgetbv();
            c.mov(ebx, eax);
            c.mov(eax, 3);
            c.mov(edx, 0);
            c.xsetbv();
            c.xgetbv();
            c.mov(eax, 7);
            c.xsetbv();
            c.mov(eax, 6);
            c.xsetbv();
            c.hlt();
        }, null, VirtPS.X86.Rflags.OF | VirtPS.X86.Rflags.SF | VirtPS.X86.Rflags.AF | VirtPS.X86.Rflags.PF);
    }

    private static IEnumerable<LockstepCase> Segments()
    {
        yield return new("segment registers: null, data, code", c =>
        {
            c.mov(eax, 0);
            c.mov(ds, eax);
            c.mov(es, eax);
            c.mov(fs, eax);
            c.mov(eax, Data);
            c.mov(ds, eax);
            c.mov(es, eax);
            c.mov(eax, Code64);
            c.mov(gs, eax);
            c.mov(eax, UserData);
            c.mov(fs, eax);
            c.push(fs);
            c.push(gs);
            c.pop(fs);
            c.pop(gs);
            c.mov(ebx, gs);
            c.mov(ecx, fs);
            c.hlt();
        });
        foreach ((string name, ushort selector) in ((string, ushort)[])[("behind the table", 0x98), ("a system descriptor", TssSelector), ("not present", NotPresent), ("an LDT without LDT", 0xC), ("RPL above DPL", 0x13), ("null with RPL 3", 3)])
        {
            yield return new($"MOV DS, {name}", c => { c.mov(eax, selector); c.mov(ds, eax); c.mov(ebx, ds); c.hlt(); });
            yield return new($"MOV SS, {name}", c => { c.mov(eax, selector); c.mov(ss, eax); c.mov(ebx, ss); c.hlt(); });
        }

        yield return new("SS null in ring 0 of long mode", c => { c.mov(eax, 0); c.mov(ss, eax); c.nop(); c.push(rax); c.pop(rbx); c.hlt(); });
        yield return new("LSS, LFS, LGS", c =>
        {
            c.mov(rax, 0x0010_0003_0000ul);
            c.mov(__qword_ptr[(ulong)Free], rax);
            c.lss(esp, __[(ulong)Free]);
            c.nop();
            c.lfs(ebx, __[(ulong)Free]);
            c.lgs(ecx, __[(ulong)Free]);
            c.hlt();
        });
        yield return new("LGDT, SGDT, LIDT, SIDT", c =>
        {
            c.sgdt(__[(ulong)Free]);
            c.sidt(__[(ulong)Free + 16]);
            c.dec(__word_ptr[(ulong)Free]);
            c.lgdt(__[(ulong)Free]);
            c.sgdt(__[(ulong)Free + 32]);
            c.lidt(__[(ulong)Free + 16]);
            c.hlt();
        });
        yield return new("LGDT refused: non-canonical base", c => { c.mov(rax, 0x8000_0000_0000_0000); c.mov(__qword_ptr[(ulong)Free + 2], rax); c.lgdt(__[(ulong)Free]); c.hlt(); });
        yield return new("LLDT, SLDT, a segment of the LDT", c =>
        {
            c.mov(eax, Ldt);
            c.lldt(ax);
            c.sldt(ebx);
            c.mov(ecx, 0xC);
            c.mov(es, ecx);
            c.mov(edx, es);
            c.mov(eax, 0);
            c.lldt(ax);
            c.sldt(rbx);
            c.hlt();
        }, m =>
        {
            Descriptor(m, Ldt, Free + 0x100, 0x1F, 0x82);
            m.Write64(Free + 0x108, 0x00CF_9300_0000_FFFF);
        });
        yield return new("LLDT refused: not an LDT", c => { c.mov(eax, Data); c.lldt(ax); c.hlt(); });
        yield return new("LTR, STR", c => { c.mov(eax, OtherTss); c.ltr(ax); c.str(ebx); c.mov(ax, OtherTss); c.ltr(ax); c.hlt(); }, m => Descriptor(m, OtherTss, TssAddress, 0x67, 0x89));
        yield return new("LTR refused: null", c => { c.mov(eax, 0); c.ltr(ax); c.hlt(); });
        yield return new("LAR, LSL, VERR, VERW", c =>
        {
            foreach (ushort selector in (ushort[])[0, Code64, Data, UserData, UserCode64, Code32, TssSelector, NotPresent, 0x98, 0xC, CallGate])
            {
                c.mov(eax, selector);
                c.lar(ebx, eax);
                c.lsl(ecx, eax);
                c.verr(ax);
                c.verw(ax);
            }

            c.hlt();
        }, m => m.Write64(GdtAddress + CallGate, 0));
        yield return new("LAR, LSL, VERR, VERW in ring 3", c =>
        {
            foreach (ushort selector in (ushort[])[Code64, Data, UserData, UserCode64, TssSelector, NotPresent])
            {
                c.mov(eax, selector);
                c.lar(ebx, eax);
                c.lsl(ecx, eax);
                c.verr(ax);
                c.verw(ax);
            }

            c.hlt();
        }) { User = true };
        yield return new("SWAPGS", c => { c.swapgs(); c.mov(rax, __qword_ptr.gs[0]); c.swapgs(); c.hlt(); }, SetGsBases);
        yield return new("FS and GS bases by MSR", c =>
        {
            Wrmsr(c, 0xC000_0100, Free + 8);
            Wrmsr(c, 0xC000_0101, 0xFFFF_8000_0000_0000);
            c.mov(rax, __qword_ptr.fs[0]);
            c.mov(ebx, Data);
            c.mov(fs, ebx);
            c.mov(ebx, 0);
            c.mov(gs, ebx);
            c.hlt();
        });
    }

    /// <summary>A system descriptor of 16 bytes.</summary>
    private static void Descriptor(ConformanceMachine m, ushort selector, uint address, uint limit, byte access)
    {
        m.Write64(GdtAddress + selector, (limit & 0xFFFF) | (ulong)(address & 0xFF_FFFF) << 16 | (ulong)access << 40 | (ulong)(address >> 24) << 56);
        m.Write64(GdtAddress + selector + 8u, 0);
    }

    private static void Wrmsr(Assembler c, uint msr, ulong value)
    {
        c.mov(ecx, msr);
        c.mov(eax, (uint)value);
        c.mov(edx, (uint)(value >> 32));
        c.wrmsr();
        c.rdmsr();
    }
}
