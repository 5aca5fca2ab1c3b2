using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Full;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>What is different in long mode: 64-bit gates, compatibility mode, SYSCALL and SYSRET, IRETQ, the rules on control registers.</summary>
public unsafe class LongModeTests
{
    private const ushort UserCode32 = 0x4B, CallGateSelector = 0x50, Spare = 0x60;
    private const uint Target = CodeAddress + 0x1000, Compat = CodeAddress + 0x2000;

    private static ConformanceMachine Start(Action<Assembler> code, Action<ConformanceMachine>? prepare = null)
    {
        var m = new ConformanceMachine(new TestEngine());
        m.EnterLongMode(_ => { });
        Place(m, CodeAddress, code);
        m.Write64(GdtAddress + (UserCode32 & ~7u), 0x00CF_FB00_0000_FFFF);
        prepare?.Invoke(m);
        m.Vcpu.CommitState();
        return m;
    }

    private static void Place(ConformanceMachine m, uint at, Action<Assembler> code, int bitness = 64)
    {
        var a = new Assembler(bitness);
        code(a);
        using var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), at);
        m.Write(at, stream.ToArray());
    }

    private static void User(ConformanceMachine m, ushort cs)
    {
        m.State->CS = SegmentRegister.FromDescriptor(cs, m.Read64(GdtAddress + (cs & ~7u)));
        m.State->SS = SegmentRegister.FromDescriptor(UserData, m.Read64(GdtAddress + (UserData & ~7u)));
        m.State->DS = m.State->ES = m.State->SS;
        m.State->Cpl = 3;
        m.State->Gpr[(int)Gpr.Rsp] = UserStack;
    }

    private static void SetCallGate(ConformanceMachine m, ulong target, int dpl = 3, uint upperType = 0)
    {
        m.Write64(GdtAddress + CallGateSelector, Guest32.Gate(SystemType.CallGate, Code64, (uint)target, dpl));
        m.Write64(GdtAddress + CallGateSelector + 8, target >> 32 | (ulong)upperType << 40);
    }

    [Fact]
    public void A_64_bit_call_gate_from_ring_3_pushes_four_quadwords_and_returns()
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(__dword_ptr[DataAddress + 8], CallGateSelector | 3);
                a.db(0x48, 0xFF, 0x1C, 0x25, 0x00, 0x00, 0x02, 0x00); // call far m16:64 [DataAddress]
                a.mov(rbp, rsp);
                a.ud2();
            },
            m =>
            {
                SetCallGate(m, Target);
                User(m, UserCode64);
            });
        Place(m, Target, a =>
        {
            a.mov(rbx, rsp);
            a.mov(rcx, __[rsp + 24]);
            a.mov(edx, ss);
            a.db(0x48, 0xCB); // retfq
        });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.UD, UserCode64, (ulong)UserStack), (r.Vector, r.Cs, m[Gpr.Rbp]));
        Assert.Equal((Ring0Stack - 32ul, (ulong)UserData, 0ul), (m[Gpr.Rbx], m[Gpr.Rcx], m[Gpr.Rdx]));
    }

    [Fact]
    public void A_call_gate_leads_from_compatibility_to_64_bit_code()
    {
        using ConformanceMachine m = Start(_ => { }, m =>
        {
            SetCallGate(m, Target);
            User(m, UserCode32);
            m.State->Rip = Compat;
        });
        Place(m, Compat, a => a.call(CallGateSelector | 3, 0), 32);
        Place(m, Target, a =>
        {
            a.mov(rax, 0x1_0000_0000);
            a.hlt();
        });
        m.RunToHalt();
        Assert.Equal((0x1_0000_0000ul, CpuMode.Long, Compat + 7ul), (m[Gpr.Rax], m.State->Mode, m.Read64(Ring0Stack - 32)));
    }

    [Theory]
    [InlineData(2, 0u, CallGateSelector)]   // DPL below CPL
    [InlineData(3, 4u, CallGateSelector)]   // type bits in the upper half
    public void A_bad_64_bit_gate_is_GP(int dpl, uint upperType, uint error)
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(__dword_ptr[DataAddress + 4], CallGateSelector | 3);
                a.db(0xFF, 0x1C, 0x25, 0x00, 0x00, 0x02, 0x00);
            },
            m =>
            {
                SetCallGate(m, Target, dpl, upperType);
                User(m, UserCode64);
            });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, error, CodeAddress + 11ul), (r.Vector, r.Error, r.Rip));
    }

    [Fact]
    public void A_stack_overflow_is_DF_on_its_own_stack_with_CR2_of_the_push()
    {
        const uint hole = 0x1F_0000;
        using ConformanceMachine m = Start(a => a.push(rax), m =>
        {
            m.SetPage(hole, 0);
            m.State->Gpr[(int)Gpr.Rsp] = hole + 0x1000;
            // IST 1 in the gate that is there.
            m.Write64(IdtAddress + 16 * Vector.DF, m.Read64(IdtAddress + 16 * Vector.DF) | 1ul << 32);
        });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.DF, 0u, (ulong)CodeAddress, hole + 0x1000ul), (r.Vector, r.Error, r.Rip, r.Rsp));
        Assert.Equal(hole + 0xFF8ul, r.Cr2);
    }

    [Fact]
    public void Interrupts_from_compatibility_mode_use_64_bit_frames()
    {
        using ConformanceMachine m = Start(_ => { }, m =>
        {
            User(m, UserCode32);
            m.State->Rip = Compat;
        });
        Place(m, Compat, a =>
        {
            a.mov(eax, 0x1F8);
            a.mov(ds, eax);
        }, 32);
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, 0x1F8u, Compat + 5ul, UserCode32, (ulong)UserStack), (r.Vector, r.Error, r.Rip, r.Cs, r.Rsp));
        Assert.Equal(CpuMode.Long, m.State->Mode);
    }

    [Fact]
    public void SYSCALL_from_compatibility_mode_goes_to_CSTAR_and_SYSRETD_returns_to_it()
    {
        using ConformanceMachine m = Start(_ => { }, m =>
        {
            User(m, UserCode32);
            m.State->Rip = Compat;
            m.State->Cstar = Target;
            m.State->Star = (ulong)Code64 << 32 | (ulong)UserCode32 << 48;
        });
        // STAR[63:48] is the 32-bit code selector; SS = that + 8 is not a data segment here, which SYSRET does not look at.
        Place(m, Compat, a =>
        {
            a.syscall();
            a.mov(ebx, cs);
            a.ud2();
        }, 32);
        Place(m, Target, a =>
        {
            a.mov(r8d, cs);
            a.db(0x0F, 0x07);
        });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.UD, (ulong)UserCode32, (ulong)Code64), (r.Vector, m[Gpr.Rbx], m[Gpr.R8]));
    }

    [Theory]
    [InlineData(0ul, Vector.UD)]                 // SCE off
    [InlineData(Efer.SCE, Vector.GP)]            // ring 3
    public void SYSRET_is_for_ring_0_with_SCE(ulong sce, int vector)
    {
        using ConformanceMachine m = Start(a => a.db(0x48, 0x0F, 0x07), m =>
        {
            User(m, UserCode64);
            m.State->Efer = (m.State->Efer & ~Efer.SCE) | sce;
        });
        Assert.Equal(vector, m.RunToException().Vector);
    }

    [Fact]
    public void SYSRET_to_a_non_canonical_address_faults_in_ring_3_as_on_AMD()
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(rcx, 0x8000_0000_0000);
                a.mov(r11d, 2);
                a.db(0x48, 0x0F, 0x07);
            },
            m => m.State->Star = (ulong)(UserData - 8) << 48);
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, 0u, UserCode64, 0x8000_0000_0000ul), (r.Vector, r.Error, r.Cs, r.Rip));
    }

    [Fact]
    public void SYSENTER_does_not_exist_in_long_mode_on_AMD()
    {
        using ConformanceMachine m = Start(a => a.sysenter(), m => m.State->SysenterCs = 8);
        Assert.Equal(Vector.UD, m.RunToException().Vector);
    }

    private static void Iretq(Assembler a, ulong rip, int cs, long flags, ulong rsp, int ss)
    {
        a.push(ss);
        a.mov(rax, rsp);
        a.push(rax);
        a.push((int)flags);
        a.push(cs);
        a.mov(rax, rip);
        a.push(rax);
        a.iretq();
    }

    [Fact]
    public void IRETQ_in_ring_0_takes_a_null_SS_and_always_loads_RSP()
    {
        using ConformanceMachine m = Start(a => Iretq(a, Target, Code64, 2, StackTop - 0x123, 0));
        Place(m, Target, a => a.hlt());
        m.RunToHalt();
        Assert.Equal((StackTop - 0x123ul, (ushort)0), (m[Gpr.Rsp], m.State->SS.Selector));
    }

    [Theory]
    [InlineData(UserCode64, 0, 0u)]            // null SS for ring 3
    [InlineData(UserCode64, Data, (uint)Data)] // SS of ring 0
    [InlineData(Data, Data, (uint)Data)]       // CS is data
    public void IRETQ_refuses_what_does_not_fit(int cs, int ss, uint error)
    {
        using ConformanceMachine m = Start(a => Iretq(a, Target, cs, 2, UserStack, ss));
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, error), (r.Vector, r.Error));
        Assert.Equal(Code64, r.Cs);
    }

    [Fact]
    public void IRETQ_to_a_non_canonical_address_is_GP_in_ring_0()
    {
        using ConformanceMachine m = Start(a => Iretq(a, 1ul << 47, UserCode64, 2, UserStack, UserData));
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, 0u, Code64), (r.Vector, r.Error, r.Cs));
    }

    [Fact]
    public void IRETQ_with_NT_is_GP()
    {
        using ConformanceMachine m = Start(a => Iretq(a, Target, Code64, 2, StackTop, 0), m => m.State->Rflags |= Rflags.NT);
        Assert.Equal(Vector.GP, m.RunToException().Vector);
    }

    [Fact]
    public void A_null_SS_is_allowed_below_ring_3_with_its_own_RPL_only()
    {
        using ConformanceMachine m = Start(a =>
        {
            a.xor(eax, eax);
            a.mov(ss, eax);
            a.push(rax);
            a.mov(eax, 1);
            a.mov(ss, eax);
        });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, 0u, (ushort)0, StackTop - 8ul), (r.Vector, r.Error, r.Ss, r.Rsp));
    }

    [Fact]
    public void LTR_reads_a_16_byte_descriptor_and_checks_its_base()
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(eax, Spare);
                a.ltr(ax);
                a.mov(eax, Spare + 0x10);
                a.ltr(ax);
            },
            m =>
            {
                m.Write64(GdtAddress + Spare, Guest32.TssDescriptor(TssAddress, 0x67, 0x89));
                m.Write64(GdtAddress + Spare + 8, 0xFFFF_8000);
                m.Write64(GdtAddress + Spare + 0x10, Guest32.TssDescriptor(TssAddress, 0x67, 0x89));
                m.Write64(GdtAddress + Spare + 0x18, 0x8000_0000);
                // The stack of the handlers does not come from this TSS: ring 0 stays ring 0.
            });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, Spare + 0x10u), (r.Vector, r.Error));
        Assert.Equal((0xFFFF_8000_0000_0000ul | TssAddress, Spare), (m.State->TR.Base, m.State->TR.Selector));
    }

    [Theory]
    [InlineData(0, Cr0.PE | Cr0.ET)]                                          // paging off in 64-bit mode
    [InlineData(4, 0ul)]                                                      // PAE off in long mode
    [InlineData(4, Cr4.PAE | Cr4.PCIDE)]                                      // CR3[11:0] is not zero
    [InlineData(3, 1ul << 52)]                                                // beyond the physical width
    [InlineData(8, 16ul)]
    public void Control_register_rules(int register, ulong value)
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(rax, value);
                switch (register)
                {
                    case 0:
                        a.mov(cr0, rax);
                        break;
                    case 3:
                        a.mov(cr3, rax);
                        break;
                    case 4:
                        a.mov(cr4, rax);
                        break;
                    default:
                        a.mov(cr8, rax);
                        break;
                }
            },
            m => m.State->Cr3 |= 0x18);
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.GP, 0u), (r.Vector, r.Error));
    }

    [Fact]
    public void LME_cannot_change_while_paging_and_LMA_cannot_be_written()
    {
        using ConformanceMachine m = Start(a =>
        {
            a.mov(ecx, Msr.Efer);
            a.xor(edx, edx);
            a.mov(eax, (uint)(Efer.LME | Efer.NXE | Efer.SCE));
            a.wrmsr();
            a.rdmsr();
            a.mov(ebx, eax);
            a.mov(eax, (uint)Efer.SCE);
            a.wrmsr();
        });
        Assert.Equal(Vector.GP, m.RunToException().Vector);
        Assert.Equal(Efer.LME | Efer.LMA | Efer.NXE | Efer.SCE, m[Gpr.Rbx]);
    }

    [Theory]
    [InlineData(4ul, 0ul, 0ul, true)]                       // type 4
    [InlineData(0ul, 1ul, 0ul, true)]                       // a PCID without PCIDE
    [InlineData(0ul, 0ul, 1ul << 63, true)]                 // non-canonical
    [InlineData(1ul, 0x1000ul, 0ul, true)]                  // reserved bits
    [InlineData(2ul, 0ul, 0ul, false)]
    [InlineData(3ul, 0ul, 0ul, false)]
    [InlineData(0ul, 0ul, 0x1000ul, false)]
    public void INVPCID(ulong type, ulong pcid, ulong linear, bool refused)
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(rax, type);
                a.invpcid(rax, __xmmword_ptr[DataAddress]);
                a.mov(ebx, 1);
                a.hlt();
            },
            m =>
            {
                m.Write64(DataAddress, pcid);
                m.Write64(DataAddress + 8, linear);
            });
        m.RunToHalt();
        Assert.Equal(refused ? 0ul : 1ul, m[Gpr.Rbx]);
        Assert.Equal(refused, m.Read64(ReportAddress) == Vector.GP);
    }

    [Fact]
    public void FSGSBASE_needs_its_bit_and_a_canonical_value()
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.mov(rax, 0x7FFF_1234_5678);
                a.wrfsbase(rax);
                a.rdfsbase(rbx);
                a.wrgsbase(eax);
                a.rdgsbase(rcx);
                a.mov(rax, 1ul << 63);
                a.wrfsbase(rax);
            },
            m => m.State->Cr4 |= Cr4.FSGSBASE);
        Assert.Equal(Vector.GP, m.RunToException().Vector);
        Assert.Equal((0x7FFF_1234_5678ul, 0x1234_5678ul), (m[Gpr.Rbx], m[Gpr.Rcx]));
        using ConformanceMachine without = Start(a => a.rdfsbase(rbx));
        Assert.Equal(Vector.UD, without.RunToException().Vector);
    }

    [Fact]
    public void SWAPGS_exchanges_the_bases_at_once_and_is_ring_0s()
    {
        const ulong Kernel = 0x2_1000, Program = 0x2_2000;
        void Prepare(ConformanceMachine m)
        {
            (m.State->GS.Base, m.State->KernelGsBase) = (Program, Kernel);
            m.Write64((uint)Kernel, 1);
            m.Write64((uint)Program, 2);
        }

        using ConformanceMachine m = Start(
            a =>
            {
                a.xor(ecx, ecx);
                a.stc();
                a.swapgs();
                a.mov(rax, __qword_ptr.gs[0]);
                a.swapgs();
                a.mov(rbx, __qword_ptr.gs[0]);
                a.swapgs();
                a.setc(cl);
                a.hlt();
            },
            Prepare);
        m.RunToHalt();
        Assert.Equal((1ul, 2ul, 1ul), (m[Gpr.Rax], m[Gpr.Rbx], m[Gpr.Rcx]));
        Assert.Equal((Kernel, Program), (m.State->GS.Base, m.State->KernelGsBase));
        using ConformanceMachine user = Start(
            a => a.swapgs(),
            u =>
            {
                Prepare(u);
                User(u, UserCode64);
            });
        Assert.Equal(Vector.GP, user.RunToException().Vector);
        Assert.Equal((Program, Kernel), (user.State->GS.Base, user.State->KernelGsBase));
    }

    [Fact]
    public void SYSCALL_clearing_TF_leaves_no_trap_in_the_kernel()
    {
        using ConformanceMachine m = Start(
            a =>
            {
                a.syscall();
                a.nop();
                a.nop();
            },
            m =>
            {
                User(m, UserCode64);
                m.State->Lstar = Target;
                m.State->Star = (ulong)Code64 << 32 | (ulong)(UserData - 8) << 48;
                m.State->Sfmask = Rflags.TF;
                m.State->Rflags |= Rflags.TF;
            });
        Place(m, Target, a =>
        {
            a.inc(ebx);
            a.inc(ebx);
            a.db(0x48, 0x0F, 0x07);
        });
        ExceptionReport r = m.RunToException();
        Assert.Equal((Vector.DB, UserCode64, 2ul), (r.Vector, r.Cs, m[Gpr.Rbx]));
        Assert.Equal(CodeAddress + 3ul, r.Rip);
    }
}
