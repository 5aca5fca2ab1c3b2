using Iced.Intel;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.VectorTests;

/// <summary>x87 exceptions that the guest has unmasked, the environment, and MMX aliasing.</summary>
public sealed unsafe class X87Tests : IDisposable
{
    private const int ZeroDivide = 4, Overflow = 8, Summary = 0x80;
    private readonly VectorGuest _guest = new();

    public void Dispose() => _guest.Dispose();

    [Fact]
    public void An_unmasked_exception_is_reported_at_the_next_waiting_instruction()
    {
        _guest.Fcw = 0x37F & ~ZeroDivide;
        Assert.Null(_guest.Run(a =>
        {
            a.fld1();
            a.fldz();
            a.fdivp(st1, st0);
            // The control forms look at nothing.
            a.fnstsw(ax);
        }));
        Assert.Equal(ZeroDivide | Summary, (int)_guest.Gpr(Gpr.Rax) & 0xFF);
        Assert.StartsWith("#MF", _guest.Run(a => a.fld1()));
        Assert.StartsWith("#MF", _guest.Run(a => a.wait()));
        Assert.StartsWith("#MF", _guest.Run(a => a.paddb(mm1, mm2)));
        Assert.StartsWith("#MF", _guest.Run(a => a.cvtpi2pd(xmm1, mm2)));
        Assert.Null(_guest.Run(a => a.cvtpi2pd(xmm1, __qword_ptr[_guest.Data])));
        Assert.Null(_guest.Run(a =>
        {
            a.fnclex();
            a.wait();
        }));
        Assert.Equal(0, _guest.Fsw & 0x80FF);
    }

    [Fact]
    public void An_unmasked_overflow_neither_stores_nor_pops()
    {
        _guest.Fcw = 0x37F & ~Overflow;
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        *_guest.At<double>(_guest.Data) = 1e300;
        *_guest.At<uint>(_guest.Data + 8) = 0xCAFE;
        Assert.Null(_guest.Run(a =>
        {
            a.fld(__qword_ptr[rbx]);
            a.fstp(__dword_ptr[rbx + 8]);
        }));
        Assert.Equal(0xCAFEu, *_guest.At<uint>(_guest.Data + 8));
        Assert.Equal(7, _guest.Fsw >> 11 & 7);
        Assert.Equal(Overflow | Summary, _guest.Fsw & 0xFF & ~0x20);
    }

    [Fact]
    public void An_instruction_whose_store_faults_changes_nothing()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped;
        Assert.Null(_guest.Run(a => a.fld1()));
        ushort before = _guest.Fsw;
        _guest.Gpr(Gpr.Rbx) = _guest.Unmapped;
        Assert.StartsWith("#PF(6)", _guest.Run(a => a.fstp(__tbyte_ptr[rbx])));
        Assert.Equal(before, _guest.Fsw);
        Assert.Equal(0x80, _guest.Ftw);
    }

    [Fact]
    public void The_instruction_pointer_is_that_of_the_last_arithmetic_instruction()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.Null(_guest.Run(a =>
        {
            a.nop();
            a.fld(__dword_ptr[rbx + 4]);
            a.nop();
            a.fnstcw(__word_ptr[rbx]);
        }));
        Assert.Equal(_guest.State->Rip - 3 - 2 - 1 - 3, *(ulong*)_guest.Xsave(8));
        Assert.Equal(_guest.Data + 4, *(ulong*)_guest.Xsave(16));
    }

    /// <summary>Several in a row, of which generated code notes the place of the last alone, with an operand between.</summary>
    [Fact]
    public void The_instruction_pointer_is_that_of_the_last_of_many()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        for (int round = 0; round < 3; round++)
        {
            Assert.Null(_guest.Run(a =>
            {
                a.fninit();
                a.fld1();
                a.fld(__dword_ptr[rbx + 12]);
                a.fadd(st0, st1);
                a.fxch(st0, st1);
                a.fnstsw(ax);
            }));
            Assert.Equal(_guest.State->Rip - 3 - 2 - 2, *(ulong*)_guest.Xsave(8));
            Assert.Equal(_guest.Data + 12, *(ulong*)_guest.Xsave(16));
        }
    }

    /// <summary>An operand that is not there shows the pointers of the instruction before it.</summary>
    [Fact]
    public void A_fault_shows_the_pointers_from_before()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        _guest.Gpr(Gpr.Rdx) = _guest.Unmapped - 3;
        Assert.Null(_guest.Run(a => a.nop()));
        ulong start = _guest.State->Rip - 4;
        Assert.StartsWith("#PF(4)", _guest.Run(a =>
        {
            a.fninit();
            a.fld(__qword_ptr[rbx + 8]);
            a.fadd(st0, st0);
            a.fld(__dword_ptr[rdx]);
        }));
        Assert.Equal(start + 2 + 3, *(ulong*)_guest.Xsave(8));
        Assert.Equal(_guest.Data + 8, *(ulong*)_guest.Xsave(16));
        Assert.Equal(0x80, _guest.Ftw);
    }

    /// <summary>FLDCW unmasks in the middle of a block: what follows raises, and is seen by the next waiting instruction; masked again, it goes on.</summary>
    [Fact]
    public void Unmasking_in_the_middle_of_a_block_is_seen_at_once()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        *_guest.At<ushort>(_guest.Data) = 0x37F & ~ZeroDivide;
        *_guest.At<ushort>(_guest.Data + 2) = 0x37F;
        Assert.StartsWith("#MF(0) at +0xA,", _guest.Run(a =>
        {
            a.fldz();
            a.fld1();
            a.fldcw(__word_ptr[rbx]);
            a.db(0xD8, 0xF1);       // FDIV st0, st1
            a.fnstsw(ax);
            a.db(0xD8, 0xC1);       // FADD st0, st1
        }));
        Assert.Equal(ZeroDivide | Summary, (int)_guest.Gpr(Gpr.Rax) & 0xFF);
        Assert.Null(_guest.Run(a =>
        {
            a.fnclex();
            a.fldcw(__word_ptr[rbx + 2]);
            a.fdiv(st0, st1);
            a.wait();
            a.fnstsw(ax);
        }));
        Assert.Equal(ZeroDivide, (int)_guest.Gpr(Gpr.Rax) & 0xFF);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void The_environment_survives_FNSTENV_and_FLDENV(bool small)
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.Null(_guest.Run(a =>
        {
            a.fninit();
            a.fld1();
            a.fldz();
            a.ftst();
            Memory(a, small, store: true);
            a.fninit();
            Memory(a, small, store: false);
        }));
        Assert.Equal(6, _guest.Fsw >> 11 & 7);
        Assert.Equal(0x4000, _guest.Fsw & 0x4700);
        Assert.Equal(0xC0, _guest.Ftw);
        Assert.Equal(0x37F, _guest.Fcw);
        // Valid and zero, in physical order.
        ushort tags = small ? _guest.At<ushort>(_guest.Data)[2] : (ushort)_guest.At<uint>(_guest.Data)[2];
        Assert.Equal(0x1FFF, tags);
    }

    private static void Memory(Assembler a, bool small, bool store)
    {
        if (small)
            a.AddInstruction(Instruction.Create(store ? Code.Fnstenv_m14byte : Code.Fldenv_m14byte, new MemoryOperand(Register.RBX)));
        else
            a.AddInstruction(Instruction.Create(store ? Code.Fnstenv_m28byte : Code.Fldenv_m28byte, new MemoryOperand(Register.RBX)));
    }

    [Fact]
    public void FNSAVE_initialises_and_FRSTOR_brings_everything_back()
    {
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.Null(_guest.Run(a =>
        {
            a.fldpi();
            a.fldl2e();
            a.fnsave(__[rbx]);
        }));
        Assert.Equal(0, _guest.Fsw);
        Assert.Equal(0, _guest.Ftw);
        _guest.Gpr(Gpr.Rbx) = _guest.Data;
        Assert.Null(_guest.Run(a =>
        {
            a.frstor(__[rbx]);
            a.fstp(__qword_ptr[rbx + 256]);
            a.fstp(__qword_ptr[rbx + 264]);
        }));
        Assert.Equal(Math.Log2(Math.E), *_guest.At<double>(_guest.Data + 256));
        Assert.Equal(Math.PI, *_guest.At<double>(_guest.Data + 264));
    }

    [Fact]
    public void MMX_writes_alias_the_x87_registers_and_empty_nothing_until_EMMS()
    {
        _guest.Gpr(Gpr.Rax) = 0x0123456789ABCDEF;
        Assert.Null(_guest.Run(a =>
        {
            a.fld1();
            a.movq(mm3, rax);
        }));
        Assert.Equal(0, _guest.Fsw >> 11 & 7);
        Assert.Equal(0xFF, _guest.Ftw);
        Assert.Equal(0x0123456789ABCDEFul, *(ulong*)_guest.Xsave(32 + 48));
        Assert.Equal(0xFFFF, *(ushort*)_guest.Xsave(32 + 48 + 8));
        // The 1.0 went to R7, which is MM7 now.
        Assert.Equal(0x8000000000000000ul, *(ulong*)_guest.Xsave(32 + 112));
        Assert.Null(_guest.Run(a => a.emms()));
        Assert.Equal(0, _guest.Ftw);
    }
}
