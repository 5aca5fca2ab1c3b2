using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;

namespace VirtPS.Lockstep;

// Control transfers, MSRs, faults and flags.
public static unsafe partial class PrivilegedCases
{
    private static IEnumerable<LockstepCase> Transfers()
    {
        yield return new("IRETQ to ring 3, INT back, ring 3 refused", c =>
        {
            Iret(c, UserData, UserStack, 0x202, UserCode64, CodeAddress + 0x800);
            c.hlt();
        }, m =>
        {
            m.Write(CodeAddress + 0x800, LockstepCase.Assemble(c => { c.@int(0x80); c.pushfq(); c.pop(rax); c.popfq(); c.cli(); }, CodeAddress + 0x800));
            Handler(m, 0x80, c => { c.mov(eax, cs); c.mov(ebx, ss); c.pushfq(); c.pop(rcx); c.iretq(); }, 3);
        });
        yield return new("IRETQ within ring 0, IRETD, NT refused", c =>
        {
            Iret(c, Data, StackTop - 64, 0x02 | VirtPS.X86.Rflags.CF | VirtPS.X86.Rflags.DF, Code64, CodeAddress + 0x800);
            c.hlt();
        }, m => m.Write(CodeAddress + 0x800, LockstepCase.Assemble(c => { c.pushfq(); c.or(__dword_ptr[rsp], 0x4000); c.popfq(); c.iretq(); }, CodeAddress + 0x800)));
        foreach ((string what, uint cs, uint ss, ulong rip) in ((string, uint, uint, ulong)[])
            [("null CS", 0, Data, CodeAddress), ("data as CS", Data, Data, CodeAddress), ("SS of ring 0 for ring 3", UserCode64, Data, CodeAddress), ("non-canonical RIP", UserCode64, UserData, 1ul << 60), ("CS behind the table", 0x98, Data, CodeAddress)])
            yield return new($"IRETQ refused: {what}", c => { Iret(c, ss, UserStack, 0x202, cs, rip); c.hlt(); });
        yield return new("far return to compatibility mode and back", c =>
        {
            c.push((int)Code32);
            c.push((int)(CodeAddress + 0x800));
            c.db(0x48, 0xCB);
        }, m =>
        {
            // mov eax, 5; push eax; pushfd; pop ebx; pop ecx; inc eax; daa is gone: jmp far 08:10900
            m.Write(CodeAddress + 0x800, [0xB8, 5, 0, 0, 0, 0x50, 0x9C, 0x5B, 0x59, 0x40, 0x06, 0x07, 0x60, 0x61, 0x27, 0xEA, 0, 0x09, 1, 0, (byte)Code64, 0]);
            m.Write(CodeAddress + 0x900, LockstepCase.Assemble(c => { c.inc(rax); c.hlt(); }, CodeAddress + 0x900));
        }, VirtPS.X86.Rflags.OF);
        yield return new("far jump and call through memory", c =>
        {
            c.mov(rax, CodeAddress + 0x800ul);
            c.mov(__qword_ptr[(ulong)Free], rax);
            c.mov(__word_ptr[(ulong)Free + 8], Code64);
            // call far qword [Free]
            c.db(0x48, 0xFF, 0x1C, 0x25, 0, 0, 2, 0);
            c.mov(ebx, 7);
            // jmp far dword [Free + 16]
            c.mov(__qword_ptr[(ulong)Free + 16], 0x10810);
            c.mov(__word_ptr[(ulong)Free + 20], Code64);
            c.db(0xFF, 0x2C, 0x25, 16, 0, 2, 0);
        }, m =>
        {
            m.Write(CodeAddress + 0x800, LockstepCase.Assemble(c => c.db(0x48, 0xCB), CodeAddress + 0x800));
            m.Write(CodeAddress + 0x810, [0xF4]);
        });
        yield return new("call gate from ring 3 and far return", c =>
        {
            c.mov(__dword_ptr[(ulong)Free + 4], CallGate | 3);
            c.db(0xFF, 0x1C, 0x25, 0, 0, 2, 0);
            c.mov(ebx, 9);
            c.ud2();
        }, m =>
        {
            m.Write64(GdtAddress + CallGate, (SystemCode & 0xFFFF) | (ulong)Code64 << 16 | 0xECul << 40 | (ulong)(SystemCode >> 16) << 48);
            m.Write64(GdtAddress + CallGate + 8u, 0);
            m.Write(SystemCode, LockstepCase.Assemble(c => { c.mov(eax, cs); c.mov(rcx, __qword_ptr[rsp + 24]); c.db(0x48, 0xCB); }, SystemCode));
        }) { User = true };
        yield return new("SYSCALL and SYSRET", c => { c.mov(eax, 39); c.syscall(); c.mov(ebx, 6); c.ud2(); }, m =>
        {
            SystemCalls(m);
            SetFlags(m, VirtPS.X86.Rflags.Fixed1 | VirtPS.X86.Rflags.IF | VirtPS.X86.Rflags.DF);
            m.Write(SystemCode, LockstepCase.Assemble(c => { c.mov(rbx, rcx); c.mov(rbp, r11); c.pushfq(); c.pop(rdx); c.mov(rcx, rbx); c.sysretq(); }, SystemCode));
        }) { User = true };
        yield return new("SYSCALL without SCE", c => { c.syscall(); c.hlt(); }, m => { SystemCalls(m); ClearSce(m); }) { User = true };
        yield return new("SYSRET to compatibility mode", c => { c.mov(ecx, CodeAddress + 0x800); c.mov(r11d, 0x202); c.db(0x0F, 0x07); }, m =>
        {
            SystemCalls(m);
            m.Write64(GdtAddress + 0x10, 0x00CF_FB00_0000_FFFF);
            // inc eax; hlt
            m.Write(CodeAddress + 0x800, [0x40, 0xF4]);
        });
        yield return new("interrupt on IST stack", c => { c.mov(rbx, rsp); c.@int(0x81); c.hlt(); }, m =>
        {
            Handler(m, 0x81, c => { c.mov(rax, rsp); c.mov(ecx, ss); c.iretq(); });
            m.SetGate(0x81, CodeAddress + 0x2000, ist: 1);
        });
        yield return new("STI's shadow, CLI, HLT", c => { c.sti(); c.nop(); c.cli(); c.sti(); c.cli(); c.hlt(); });
        yield return new("POP SS and the instruction behind it", c => { c.push((int)Data); c.pop(rax); c.mov(ss, eax); c.mov(rsp, StackTop - 8ul); c.pushfq(); c.pop(rbx); c.hlt(); });
    }

    private static void SystemCalls(ConformanceMachine m)
    {
        m.State->Lstar = SystemCode;
        m.State->Star = (ulong)Code64 << 32 | (ulong)(UserData - 8) << 48;
        m.State->Sfmask = VirtPS.X86.Rflags.IF | VirtPS.X86.Rflags.DF;
    }

    private static void ClearSce(ConformanceMachine m) => m.State->Efer &= ~Efer.SCE;

    private static void SetFlags(ConformanceMachine m, ulong flags) => m.State->Rflags = flags;

    private static void SetAm(ConformanceMachine m) => m.State->Cr0 |= Cr0.AM;

    private static void SetGsBases(ConformanceMachine m) => (m.State->GS.Base, m.State->KernelGsBase) = (Free, Free + 0x1000);

    private static void Iret(Assembler c, uint ss, ulong rsp, ulong flags, uint cs, ulong rip)
    {
        c.push((int)ss);
        c.mov(rax, rsp);
        c.push(rax);
        c.push((int)flags);
        c.push((int)cs);
        c.mov(rax, rip);
        c.push(rax);
        c.iretq();
    }

    private static void Handler(ConformanceMachine m, int vector, Action<Assembler> code, int dpl = 0)
    {
        m.Write(CodeAddress + 0x2000, LockstepCase.Assemble(code, CodeAddress + 0x2000));
        m.SetGate(vector, CodeAddress + 0x2000, dpl);
    }

    private static IEnumerable<LockstepCase> Registers()
    {
        yield return new("MSRs of system calls", c =>
        {
            Wrmsr(c, 0xC000_0081, 0x0023_0010_0000_0000);
            Wrmsr(c, 0xC000_0082, 0xFFFF_8000_1234_5678);
            Wrmsr(c, 0xC000_0083, 0x1234_5678);
            Wrmsr(c, 0xC000_0084, 0x4_7700);
            Wrmsr(c, 0x174, 8);
            Wrmsr(c, 0x175, 0x1234_5678);
            // AMD's processors keep 32 bits.
            Wrmsr(c, 0x176, 0x7123_4567);
            Wrmsr(c, 0xC000_0102, 0xFFFF_8888_1234_5678);
            c.hlt();
        });
        yield return new("PAT", c => { Wrmsr(c, 0x277, 0x0007_0106_0007_0106); c.hlt(); });
        yield return new("PAT refused: reserved type", c => { Wrmsr(c, 0x277, 0x0007_0106_0007_0102); c.hlt(); });
        yield return new("MTRRs", c =>
        {
            c.mov(ecx, 0xFE);
            c.rdmsr();
            c.mov(eax, 0);
            c.mov(edx, 0);
            Wrmsr(c, 0x2FF, 0xC06);
            Wrmsr(c, 0x250, 0x0606_0606_0606_0606);
            c.hlt();
        });
        yield return new("EFER: SCE, NXE", c => { Wrmsr(c, 0xC000_0080, 0x500); Wrmsr(c, 0xC000_0080, 0xD01); c.hlt(); });
        yield return new("EFER refused: LME off while paging", c => { Wrmsr(c, 0xC000_0080, 0x801); c.hlt(); });
        yield return new("EFER refused: reserved bit", c => { Wrmsr(c, 0xC000_0080, 0x8000_0D01); c.hlt(); });
        yield return new("an MSR that nobody has", c => { c.mov(ecx, 0x1234_5678); c.rdmsr(); c.hlt(); });
        yield return new("writing an MSR that nobody has", c => { Wrmsr(c, 0x1234_5678, 0); c.hlt(); });
        yield return new("RDMSR in ring 3", c => { c.mov(ecx, 0xC000_0080); c.rdmsr(); }) { User = true };
        foreach ((string name, Action<Assembler> code) in ((string, Action<Assembler>)[])
        [
            ("HLT", c => c.hlt()), ("CLTS", c => c.clts()), ("MOV from CR0", c => c.mov(rax, cr0)), ("MOV to DR0", c => c.mov(dr0, rax)), ("LGDT", c => c.lgdt(__[(ulong)Free])), ("INVLPG", c => c.invlpg(__[0])),
            ("LTR", c => c.ltr(ax)), ("LMSW", c => c.lmsw(ax)), ("WBINVD", c => c.wbinvd()), ("SWAPGS", c => c.swapgs()), ("STI", c => c.sti()), ("OUT", c => c.@out(0x80, al)), ("SYSRET", c => c.sysretq()),
            ("SGDT", c => { c.sgdt(__[(ulong)Free]); c.hlt(); }), ("SMSW", c => { c.smsw(eax); c.hlt(); }),
        ])
            yield return new($"in ring 3: {name}", code) { User = true };
    }

    private const ulong Status = VirtPS.X86.Rflags.Status;

    private static IEnumerable<LockstepCase> Faults()
    {
        yield return new("#UD", c => c.ud2());
        yield return new("#DE", c => { c.mov(eax, 1); c.mov(edx, 0); c.mov(ecx, 0); c.div(ecx); }, null, 0);
        yield return new("#DE: quotient too large", c => { c.mov(eax, 0); c.mov(edx, 5); c.mov(ecx, 5); c.div(ecx); });
        yield return new("#DE in the #DE handler's second instruction, behind one of one byte", c => { c.mov(eax, 1); c.mov(edx, 0); c.mov(esi, Free); c.div(__dword_ptr[rsi]); }, m =>
        {
            m.Write(Free, [0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
            Handler(m, Vector.DE, c => { c.lodsd(); c.div(__dword_ptr[rsi]); c.hlt(); });
        }, Status);
        yield return new("#BP", c => c.int3());
        yield return new("INT n from ring 0", c => c.@int(0x42));
        yield return new("#NM with TS", c => { c.mov(rax, cr0); c.or(rax, 8); c.mov(cr0, rax); c.fninit(); c.hlt(); });
        yield return new("#NM with TS for SSE", c => { c.mov(rax, cr0); c.or(rax, 8); c.mov(cr0, rax); c.xorps(xmm0, xmm0); c.hlt(); });
        yield return new("#UD with EM for SSE", c => { c.mov(rax, cr0); c.or(rax, 4); c.mov(cr0, rax); c.xorps(xmm0, xmm0); c.hlt(); });
        yield return new("#PF: not present", c => { c.mov(rax, __qword_ptr[(ulong)Free]); c.hlt(); }, m => m.SetPage(Free, 0));
        yield return new("#PF: write to a read-only page", c => { c.mov(rax, __qword_ptr[(ulong)Free]); c.mov(__qword_ptr[(ulong)Free], rax); c.hlt(); }, m => m.SetPage(Free, Free | 5));
        yield return new("a write to a read-only page without WP", c => { c.mov(rax, cr0); c.btr(rax, 16); c.mov(cr0, rax); c.mov(__qword_ptr[(ulong)Free], rax); c.hlt(); }, m => m.SetPage(Free, Free | 5),
            VirtPS.X86.Rflags.OF | VirtPS.X86.Rflags.SF | VirtPS.X86.Rflags.AF | VirtPS.X86.Rflags.PF);
        yield return new("#PF: no execution", c => c.jmp(Free), m => m.SetPage(Free, Free | 1ul << 63 | 7));
        yield return new("#PF: a supervisor page from ring 3", c => { c.mov(rax, __qword_ptr[(ulong)Free]); c.hlt(); }, m => m.SetPage(Free, Free | 3)) { User = true };
        yield return new("#PF in the middle of REP MOVSB", c => { c.mov(esi, CodeAddress); c.mov(edi, Free + 0x1000 - 5); c.mov(ecx, 12); c.rep.movsb(); c.hlt(); }, m => m.SetPage(Free + 0x1000, 0));
        yield return new("REP STOSQ backwards, REPNE SCASB, REPE CMPSB", c =>
        {
            c.std();
            c.mov(edi, Free + 0x80);
            c.mov(ecx, 5);
            c.mov(rax, 0x1122_3344_5566_7788);
            c.rep.stosq();
            c.cld();
            c.mov(edi, Free);
            c.mov(ecx, 0x200);
            c.mov(al, 0x55);
            c.repne.scasb();
            c.mov(esi, Free);
            c.mov(edi, Free + 1);
            c.mov(ecx, 0x40);
            c.repe.cmpsb();
            c.hlt();
        });
        yield return new("#PF while pushing", c => { c.mov(rsp, Free + 4ul); c.mov(rax, -1L); c.push(rax); c.hlt(); }, m =>
        {
            m.SetPage(Free - 0x1000, 0);
            m.SetGate(Vector.PF, StubOf(m, Vector.PF), ist: 1);
        });
        yield return new("#GP: non-canonical address", c => { c.mov(rax, 1ul << 50); c.mov(rbx, __qword_ptr[rax]); c.hlt(); });
        yield return new("#GP: MOVAPS misaligned", c => { c.mov(eax, Free + 1); c.movaps(xmm0, __xmmword_ptr[rax]); c.hlt(); });
        yield return new("#AC in ring 3", c => { c.pushfq(); c.or(__dword_ptr[rsp], 0x4_0000); c.popfq(); c.mov(eax, __dword_ptr[(ulong)Free + 1]); c.hlt(); }, SetAm) { User = true };
        yield return new("a page fault, mended and repeated", c => { c.mov(rax, __qword_ptr[(ulong)Free]); c.mov(ebx, 1); c.hlt(); }, m =>
        {
            m.SetPage(Free, 0);
            Handler(m, Vector.PF, c => { c.mov(__qword_ptr[EntryOf(Free)], (int)(Free | 3)); c.add(rsp, 8); c.iretq(); });
        });
        yield return new("SMAP, STAC and CLAC", c =>
        {
            c.mov(rax, cr4);
            c.bts(rax, 21);
            c.mov(cr4, rax);
            c.stac();
            c.mov(rbx, __qword_ptr[(ulong)Free]);
            c.clac();
            c.mov(rbx, __qword_ptr[(ulong)Free]);
            c.hlt();
        }, m => SupervisorPages(m), VirtPS.X86.Rflags.OF | VirtPS.X86.Rflags.SF | VirtPS.X86.Rflags.AF | VirtPS.X86.Rflags.PF);
    }

    /// <summary>All of the first 2 MiB but the page at <see cref="Free"/> belong to the supervisor.</summary>
    private static void SupervisorPages(ConformanceMachine m)
    {
        for (ulong page = 0; page < 512; page++)
            m.SetPage(page << 12, page << 12 | (page == Free >> 12 ? 7ul : 3));
    }

    private static ulong StubOf(ConformanceMachine m, int vector)
    {
        ulong low = m.Read64(IdtAddress + (ulong)vector * 16);
        return (low & 0xFFFF) | (low >> 32 & 0xFFFF_0000);
    }

    private static IEnumerable<LockstepCase> Flags()
    {
        yield return new("POPFQ in ring 0: all bits", c =>
        {
            c.mov(rax, 0x3F_7ED7L & ~0x100L & ~0x2_0000L);
            c.push(rax);
            c.popfq();
            c.pushfq();
            c.pop(rbx);
            c.push(0);
            c.popfq();
            c.pushfq();
            c.pop(rcx);
            c.db(0x66, 0x9C);
            c.db(0x66, 0x9D);
            c.hlt();
        });
        foreach (ulong iopl in (ulong[])[0, 3])
        {
            yield return new($"POPFQ, STI, CLI, OUT in ring 3 with IOPL {iopl}", c =>
            {
                c.mov(rax, 0x24_7CD7L);
                c.push(rax);
                c.popfq();
                c.pushfq();
                c.pop(rbx);
                c.push(0x202);
                c.popfq();
                c.pushfq();
                c.pop(rcx);
                c.sti();
                c.cli();
                c.hlt();
            }, m => SetFlags(m, VirtPS.X86.Rflags.Fixed1 | VirtPS.X86.Rflags.IF | iopl << 12)) { User = true };
        }

        yield return new("SAHF, LAHF, CMC, STC, CLC, STD, CLD", c =>
        {
            c.mov(ah, 0xFF);
            c.sahf();
            c.lahf();
            c.cmc();
            c.stc();
            c.clc();
            c.std();
            c.cld();
            c.pushfq();
            c.pop(rdx);
            c.hlt();
        });
        yield return new("CMPXCHG8B, CMPXCHG16B, XADD, LOCK", c =>
        {
            c.mov(eax, 0);
            c.mov(edx, 0);
            c.mov(ebx, 1);
            c.mov(ecx, 2);
            c.@lock.cmpxchg8b(__qword_ptr[(ulong)Free + 64]);
            c.cmpxchg8b(__qword_ptr[(ulong)Free + 64]);
            c.cmpxchg16b(__xmmword_ptr[(ulong)Free + 80]);
            c.mov(rax, 5L);
            c.@lock.xadd(__qword_ptr[(ulong)Free + 64], rax);
            c.@lock.inc(__dword_ptr[(ulong)Free + 64]);
            c.bswap(rax);
            c.hlt();
        });
        yield return new("CMPXCHG16B misaligned", c => { c.cmpxchg16b(__xmmword_ptr[(ulong)Free + 8]); c.hlt(); });
        yield return new("ENTER, LEAVE, PUSH and POP of every kind", c =>
        {
            c.mov(rbp, rsp);
            c.enter(0x20, 3);
            c.leave();
            c.push(0x7F);
            c.push(-0x1234567);
            c.pop(__qword_ptr[(ulong)Free]);
            c.push(__qword_ptr[(ulong)Free]);
            c.pop(rsp);
            c.mov(rsp, StackTop - 0x100ul);
            c.push(rsp);
            c.pop(rax);
            c.push(ax);
            c.pop(bx);
            c.hlt();
        });
        yield return new("port I/O: sizes, REP INSB and OUTSW", c =>
        {
            c.mov(eax, 0x1234_5678);
            c.@out(0x80, al);
            c.@out(0x80, ax);
            c.@out(0x80, eax);
            c.mov(rax, -1L);
            c.@in(eax, 0x81);
            c.@in(al, 0x81);
            c.mov(edx, 0x82);
            c.mov(edi, Free);
            c.mov(ecx, 3);
            c.rep.insb();
            c.mov(esi, Free);
            c.mov(ecx, 2);
            c.rep.outsw();
            c.hlt();
        });
        yield return new("MMIO: loads, stores, ADD, XCHG", c =>
        {
            c.mov(rbx, (ulong)MmioAddress);
            c.mov(eax, 0x1122_3344);
            c.mov(__dword_ptr[rbx], eax);
            c.add(__dword_ptr[rbx], eax);
            c.xchg(__dword_ptr[rbx], eax);
            c.mov(rcx, __qword_ptr[rbx]);
            c.movzx(edx, __byte_ptr[rbx + 1]);
            c.movsx(rdx, __word_ptr[rbx + 2]);
            c.hlt();
        });
    }
}
