using System.Runtime.InteropServices;
using Iced.Intel;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Opcodes;

// Faults on the native side: signal handlers in generated code, which take the thread's state out of the frame that Linux made and leave by the exit code, as
// longjmp would. A signal from elsewhere goes on to who had it before.
internal sealed unsafe partial class NativeRunner
{
    private const int FrameOffset = 3072, SavedOffset = 1048, RunningOffset = 1120;
    private const int SigIll = 4, SigTrap = 5, SigBus = 7, SigFpe = 8, SigSegv = 11;

    /// <summary>Linux's struct sigcontext (arch/x86): 23 words, then the pointer to the XSAVE area; at this offset in ucontext_t.</summary>
    private const int ContextOffset = 40, ContextWords = 23, RipIndex = 16;

    /// <summary>What the <see cref="Watch"/> sends; nobody else does.</summary>
    private const int SigXcpu = 24;

    private static readonly int[] s_signals = [SigIll, SigTrap, SigBus, SigFpe, SigSegv, SigXcpu];

    private readonly SigAction[] _before = new SigAction[s_signals.Length];

    // Index in sigcontext of each general register.
    private static ReadOnlySpan<byte> GprIndex => [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];

    [StructLayout(LayoutKind.Sequential)]
    private struct FaultFrame
    {
        public fixed ulong Words[ContextWords];

        /// <summary>1: a fault; 2: the watch has ended it.</summary>
        public ulong Happened;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct SigAction
    {
        public nint Handler;
        public fixed byte Mask[128];
        public int Flags;
        public nint Restorer;
    }

    private FaultFrame* Frame => (FaultFrame*)(_layout.Stubs + FrameOffset);

    private void EmitFaultHandlers()
    {
        // A watch that comes too late finds nobody.
        byte* nobody = Here;
        Emit(Instruction.Create(Code.Retnq));
        for (int i = 0; i < s_signals.Length; i++)
        {
            bool watch = s_signals[i] == SigXcpu;
            SigAction now = default, before;
            now.Handler = (nint)EmitFaultHandler(SavedOffset + 8 * i, watch ? 2 : 1);
            const int Info = 4, OnStack = 0x0800_0000, NoDefer = 0x4000_0000;
            now.Flags = Info | OnStack | NoDefer;
            // The stub must be complete, and know its predecessor, before it can be called.
            if (Sigaction(s_signals[i], null, &before) != 0)
                throw new InvalidOperationException($"sigaction, error {Marshal.GetLastPInvokeError()}.");
            _before[i] = before;
            *(nint*)(_layout.Stubs + SavedOffset + 8 * i) = watch ? (nint)nobody : before.Handler;
            if (Sigaction(s_signals[i], &now, null) != 0)
                throw new InvalidOperationException($"sigaction, error {Marshal.GetLastPInvokeError()}.");
        }
    }

    /// <summary>Gives the signals back.</summary>
    public void Dispose()
    {
        _watch.Dispose();
        for (int i = 0; i < s_signals.Length; i++)
        {
            SigAction before = _before[i];
            _ = Sigaction(s_signals[i], &before, null);
        }
    }

    // (rdi, rsi, rdx) = (signal, siginfo, ucontext).
    private byte* EmitFaultHandler(int chainOffset, int happened)
    {
        byte* handler = Here;
        // Not by RIP: a wild jump of a program may have led anywhere.
        Emit(Instruction.Create(Code.Cmp_rm32_imm8, Rip(RunningOffset), 0));
        int patch = _at + 2;
        Emit(Instruction.CreateBranch(Code.Jne_rel32_64, (ulong)Here));
        Emit(Instruction.Create(Code.Jmp_rm64, Rip(chainOffset)));
        *(int*)(_layout.Stubs + patch) = (int)(Here - (_layout.Stubs + patch + 4));
        Emit(Instruction.Create(Code.Cld));
        Emit(Instruction.Create(Code.Lea_r64_m, Register.RSI, new MemoryOperand(Register.RDX, ContextOffset)));
        CopyTo(FrameOffset, ContextWords);
        Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RSI, new MemoryOperand(Register.RDX, ContextOffset + 8 * ContextWords)));
        // A narrower frame may end before there would be more.
        CopyTo(XsaveOutOffset, HostXsave.Size / 8);
        Emit(Instruction.Create(Code.Mov_rm64_imm32, Rip(FrameOffset + 8 * ContextWords), happened));
        LoadDataSegments(0, 64);
        Emit(Instruction.Create(Code.Mov_r64_rm64, Register.RSP, Rip(SavedRspOffset)));
        EmitLeave();
        return handler;
    }

    private void CopyTo(int offset, int words)
    {
        Emit(Instruction.Create(Code.Lea_r64_m, Register.RDI, Rip(offset)));
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.ECX, words));
        Emit(Instruction.CreateMovsq(64, repPrefix: RepPrefixKind.Repe));
    }

    /// <summary>The last fault, for a report.</summary>
    public string DescribeFault() => $"vector {Frame->Words[20]} at 0x{Frame->Words[RipIndex]:X}, the code being at 0x{(ulong)_layout.Code:X}, CR2 0x{Frame->Words[22]:X}, {(Frame->Happened == 2 ? "by the watch" : "a signal")}";

    private void ReadFault(ref Outcome outcome)
    {
        if (Frame->Happened == 2)
        {
            outcome.Vector = Outcome.Endless;
            return;
        }

        ulong* words = Frame->Words;
        MachineImage* image = Output;
        image->ClearUnused();
        for (int i = 0; i < 16; i++)
            image->Gpr[i] = words[GprIndex[i]];
        image->Flags = words[17];
        outcome.Vector = (int)words[20];
        outcome.Rip = words[RipIndex];
        if (outcome.Rip - (ulong)_layout.Stubs < Layout.StubPages * Layout.Page)
            outcome.Vector = Outcome.Strayed;
        if (Outcome.HasError(outcome.Vector))
            outcome.Error = words[19];
        if (outcome.Vector == Vector.PF)
            outcome.Cr2 = words[22];
    }

    [LibraryImport("libc", EntryPoint = "sigaction", SetLastError = true)]
    private static partial int Sigaction(int signal, SigAction* action, SigAction* before);
}
