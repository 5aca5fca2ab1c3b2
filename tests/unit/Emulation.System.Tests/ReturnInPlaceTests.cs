using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;
using static VirtPS.Sdk.Testing.Conformance.ConformanceMachine;
using Gpr = VirtPS.X86.Gpr;

namespace VirtPS.Emulation.SystemTests;

/// <summary>
/// IRETQ within ring 0, several times, as Linux does to serialize: from the second on nothing is checked anew that is as it was. Then something is not: each kind must be found, as by the first one.
/// </summary>
public unsafe class ReturnInPlaceTests
{
    /// <summary>The segment of the returns: the handlers' own stays good.</summary>
    private const ushort Code = 0x60;
    private const int Times = 3;

    public enum Change
    {
        Nothing, StatusFlags, InterruptFlag, TrapFlag, NestedTask, Address, OtherSelector, CodeNotPresent, CodeIsData, StackReadOnly, StackNotPresent, FrameOverPageEnd, UserRing,
    }

    /// <summary>Each kind with a stack segment and without: 64-bit mode has no need of one within ring 0 to 2, and Linux boots without.</summary>
    public static TheoryData<Change, bool> Changes
    {
        get
        {
            var all = new TheoryData<Change, bool>();
            foreach (Change change in Enum.GetValues<Change>())
            {
                all.Add(change, false);
                all.Add(change, true);
            }

            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Changes))]
    public void What_changed_is_found(Change change, bool nullStack)
    {
        using var m = new ConformanceMachine(new TestEngine());
        m.EnterLongMode(_ => { });
        m.Write64(GdtAddress + Code, m.Read64(GdtAddress + Code64));
        var a = new Assembler(64);
        if (nullStack)
        {
            a.xor(eax, eax);
            a.mov(ss, eax);
        }

        for (int i = 0; i < Times; i++)
            Return(a, Change.Nothing);
        Apply(a, change);
        Return(a, change);
        a.nop();
        a.hlt();
        using var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), CodeAddress);
        m.Write(CodeAddress, stream.ToArray());
        m.Vcpu.CommitState();
        (int vector, uint error) = Expected(change, nullStack);
        if (vector >= 0)
        {
            ExceptionReport r = m.RunToException();
            Assert.Equal((vector, error), (r.Vector, r.Error));
            Assert.InRange(r.Rip, CodeAddress, CodeAddress + 0xFFFu);
            return;
        }

        if (change == Change.InterruptFlag)
        {
            // Somebody waits for interrupts to be allowed.
            m.State->Requests |= (uint)VcpuRequests.Interrupt;
            Assert.Equal(VcpuExit.InterruptWindow, m.Vcpu.Run());
            m.State->Requests = 0;
        }

        m.RunToHalt();
        Assert.Equal(StackTop - 0x100ul, m[Gpr.Rsp]);
        ulong flags = m.State->Rflags & (Rflags.Status | Rflags.DF | Rflags.IF);
        Assert.Equal(change switch { Change.StatusFlags => Rflags.CF | Rflags.SF | Rflags.OF | Rflags.DF, Change.InterruptFlag => Rflags.IF, _ => 0ul }, flags);
        Assert.Equal(change == Change.OtherSelector ? Code64 : Code, m.State->CS.Selector);
        Assert.Equal(nullStack ? (ushort)0 : Data, m.State->SS.Selector);
        Assert.Equal(Times + 1ul, m.Vcpu.Counters->SameRing[(int)VirtPS.Sdk.Rings.RingCause.Iret]);
    }

    private static (int Vector, uint Error) Expected(Change change, bool nullStack) => change switch
    {
        Change.TrapFlag => (Vector.DB, 0u),
        Change.NestedTask or Change.Address => (Vector.GP, 0u),
        Change.CodeNotPresent => (Vector.NP, Code),
        Change.CodeIsData => (Vector.GP, Code),
        // Ring 3 with ring 0's stack segment, or none.
        Change.UserRing => (Vector.GP, nullStack ? 0u : Data),
        Change.StackReadOnly when !nullStack => (Vector.GP, Data),
        Change.StackNotPresent when !nullStack => (Vector.SS, Data),
        _ => (-1, 0u),
    };

    /// <summary>What is different before the last return.</summary>
    private static void Apply(Assembler a, Change change)
    {
        const int Access = 5;
        switch (change)
        {
            case Change.NestedTask:
                a.pushfq();
                a.or(__dword_ptr[rsp], (int)Rflags.NT);
                a.popfq();
                break;
            case Change.CodeNotPresent:
                a.and(__byte_ptr[(ulong)(GdtAddress + Code + Access)], 0x7F);
                break;
            case Change.CodeIsData:
                a.and(__byte_ptr[(ulong)(GdtAddress + Code + Access)], 0xF7);
                break;
            case Change.StackReadOnly:
                a.and(__byte_ptr[(ulong)(GdtAddress + Data + Access)], 0xFD);
                break;
            case Change.StackNotPresent:
                a.and(__byte_ptr[(ulong)(GdtAddress + Data + Access)], 0x7F);
                break;
        }
    }

    private static void Return(Assembler a, Change change)
    {
        Label on = a.CreateLabel();
        a.mov(rsp, change == Change.FrameOverPageEnd ? StackTop - 0x1000 + 24ul : StackTop - 8ul);
        a.mov(eax, ss);
        a.push(rax);
        a.push((int)(StackTop - 0x100));
        a.push(change switch
        {
            Change.StatusFlags => (int)(Rflags.CF | Rflags.SF | Rflags.OF | Rflags.DF),
            Change.InterruptFlag => (int)Rflags.IF,
            Change.TrapFlag => (int)Rflags.TF,
            Change.NestedTask => (int)Rflags.NT,
            _ => 0,
        } | 2);
        a.push(change switch { Change.OtherSelector => Code64, Change.UserRing => UserCode64, _ => Code });
        if (change == Change.Address)
            a.mov(rax, 1ul << 47);
        else
            a.lea(rax, __[on]);
        a.push(rax);
        a.iretq();
        a.Label(ref on);
        a.nop();
    }
}
