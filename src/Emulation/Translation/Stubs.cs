using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;

namespace VirtPS.Emulation;

/// <summary>Why generated code came back.</summary>
internal enum TranslatedExit
{
    None,

    /// <summary>A direct branch that is not linked; <see cref="NativeCpu.ExitSite"/> is its index. RIP is not set.</summary>
    Link,

    /// <summary>An indirect branch whose target is not in the jump cache; RIP is the target.</summary>
    Indirect,

    /// <summary>An interpreted instruction branched or changed the code behind it; RIP is where to go on. The status flags are in their lazy form.</summary>
    Continue,

    /// <summary>The same, and the outer loop must look at something first.</summary>
    Leave,

    /// <summary>A guest fault is recorded; RIP is at the instruction.</summary>
    Fault,

    /// <summary>An instruction, <see cref="NativeCpu.ExitSite"/>, is to be interpreted; then <see cref="Stubs.Resume"/>.</summary>
    Interpret,

    /// <summary>So is the rest of its block.</summary>
    InterpretRest,

    /// <summary>A check for several accesses missed: the block goes on, at <see cref="NativeCpu.ExitSite"/>, in its second translation. RIP is not set.</summary>
    Unpinned,

    /// <summary>The generated code itself is wrong: a fault of the host's.</summary>
    HostFault,
}

/// <summary>
/// The common pieces of generated code: in and out, also for one instruction that is to be interpreted. Written once at the start of each code cache.
/// Between them the stack pointer is <see cref="VcpuMemory.StackPointer"/>; managed code only ever runs on the thread's own stack.
/// </summary>
internal sealed unsafe partial class Stubs
{
    private static readonly int s_hostStack = OffsetOf(n => (byte*)&n->HostStack), s_resume = OffsetOf(n => (byte*)&n->Resume),
        s_exitSite = OffsetOf(n => (byte*)&n->ExitSite),
        s_rip = OffsetOf(n => (byte*)&n->State.Rip),
        s_rflags = OffsetOf(n => (byte*)&n->State.Rflags), s_requestMask = OffsetOf(n => (byte*)&n->RequestMask),
        s_statusMask = OffsetOf(n => (byte*)&n->StatusMask), s_otherMask = OffsetOf(n => (byte*)&n->OtherFlagsMask);

    private static readonly int s_vectorReady = OffsetOf(n => (byte*)&n->VectorReady),
        s_hostMxcsr = OffsetOf(n => (byte*)&n->HostMxcsr), s_xsave = OffsetOf(n => n->State.Xsave);

    public static readonly int VectorIdleOffset = OffsetOf(n => (byte*)&n->VectorIdle), AlignedMask16Offset = OffsetOf(n => (byte*)&n->AlignedMask16),
        AlignedMask32Offset = OffsetOf(n => (byte*)&n->AlignedMask32), AlignedMask64Offset = OffsetOf(n => (byte*)&n->AlignedMask64);

    /// <summary>In a site: the code behind takes the vector registers to be loaded.</summary>
    public const uint KeepVectors = 1u << 31;

    /// <summary>Registers that the host's calling convention keeps (System V ABI §3.2.1).</summary>
    private static readonly HostReg[] s_preserved = [HostReg.Rbx, HostReg.Rbp, HostReg.R12, HostReg.R13, HostReg.R14, HostReg.R15];

    public const uint NoSite = uint.MaxValue;

    private readonly HostFeatures _host;

    /// <param name="host">What the code may use.</param>
    public Stubs(HostFeatures host) => _host = host;

    /// <summary>From managed code: (stack pointer, code) → exit code.</summary>
    public byte* Enter { get; private set; }

    /// <summary>From managed code after <see cref="TranslatedExit.Interpret"/>, the instruction being done: (stack pointer) → exit code.</summary>
    public byte* Resume { get; private set; }

    /// <summary>Called with the site in R11D; comes back when the instruction is done and the next one is to be executed.</summary>
    public StubCode Interpret => Get(StubName.Interpret);

    /// <summary>Jumped to with the branch's index in R11D.</summary>
    public StubCode ExitLink => Get(StubName.ExitLink);

    /// <summary>Jumped to with the target in R10 and the branch's site in R11D (<see cref="NoSite"/> where it cannot fault).</summary>
    public StubCode ExitIndirect => Get(StubName.ExitIndirect);

    /// <summary>The same after a look at the second table of the jump cache.</summary>
    public StubCode SecondLookUser => Get(StubName.SecondLookUser);
    public StubCode SecondLookSupervisor => Get(StubName.SecondLookSupervisor);

    /// <summary>Where empty entries of jump caches lead: target in R10.</summary>
    public byte* ExitNowhere { get; private set; }

    /// <summary>Called: IF in the state is cleared or set; with IF the interrupt request counts (<see cref="NativeCpu.RequestMask"/>). Uses R10, changes no flags.</summary>
    public StubCode ClearInterruptFlag => Get(StubName.ClearInterruptFlag);
    public StubCode SetInterruptFlag => Get(StubName.SetInterruptFlag);

    /// <summary>Called: DF in the state is cleared or set. Uses R10, changes no flags.</summary>
    public StubCode ClearDirectionFlag => Get(StubName.ClearDirectionFlag);
    public StubCode SetDirectionFlag => Get(StubName.SetDirectionFlag);

    /// <summary>Called: the image that PUSHF stores, in R11. Changes nothing else.</summary>
    public StubCode Flags => Get(StubName.Flags);

    /// <summary>Jumped to with the site in R11D: the block's second translation is wanted.</summary>
    public StubCode ExitUnpinned => Get(StubName.ExitUnpinned);

    /// <summary>Where a host fault sends the thread.</summary>
    public byte* ExitFault { get; private set; }

    /// <summary>From the stack pointer to <see cref="NativeCpu.HostFaultRip"/>; the signal's number follows it.</summary>
    public static readonly int HostFaultOffset = OffsetOf(n => (byte*)&n->HostFaultRip);

    /// <summary>
    /// Called with the site in R11D where the vector registers are not loaded: loads them, or has the interpreter do the rest of the block.
    /// </summary>
    public StubCode VectorGate => Get(StubName.VectorGate);

    /// <summary>The same, with ZMM16–31 and the masks.</summary>
    public StubCode WideGate => Get(StubName.WideGate);

    private byte* _leave, _leaveAside, _loadVectors, _saveVectors, _loadWide;
    private readonly byte*[] _codes = new byte*[Enum.GetValues<StubName>().Length];

    /// <summary>A stub by its name, which is the same in each run.</summary>
    public StubCode Get(StubName name) => new(name, _codes[(int)name]);

    private void Begin(StubName name, in HostAssembler a) => _codes[(int)name] = a.Next;

    public void Emit(ref HostAssembler a)
    {
        EmitEnter(ref a);
        _leave = a.Next;
        EmitLeave(ref a);
        a.Return();
        _leaveAside = a.Next;
        EmitLeave(ref a);
        a.Pop(HostReg.Rcx);
        a.Op(0xFF, 4, HostReg.Rcx);
        EmitLoadVectors(ref a);
        EmitSaveVectors(ref a);
        if (_host.Avx512)
            EmitLoadWide(ref a);
        if (_host.Xsave)
            EmitX87(ref a);
        EmitResume(ref a);
        Begin(StubName.ExitLink, a);
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        EmitExit(ref a, TranslatedExit.Link);
        Begin(StubName.ExitIndirect, a);
        a.Store(HostMemory.State(s_rip), HostReg.R10);
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        EmitExit(ref a, TranslatedExit.Indirect);
        Begin(StubName.ExitUnpinned, a);
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        EmitExit(ref a, TranslatedExit.Unpinned);
        ExitNowhere = a.Next;
        a.MoveImmediate(HostReg.R11, NoSite);
        a.Jump(ExitIndirect.Address);
        Begin(StubName.SecondLookUser, a);
        EmitSecondLook(ref a, user: true);
        Begin(StubName.SecondLookSupervisor, a);
        EmitSecondLook(ref a, user: false);
        ExitFault = a.Next;
        EmitExit(ref a, TranslatedExit.HostFault);
        Begin(StubName.Interpret, a);
        EmitInterpret(ref a, TranslatedExit.Interpret);
        Begin(StubName.VectorGate, a);
        EmitGate(ref a, s_vectorReady, _loadVectors);
        Begin(StubName.WideGate, a);
        EmitGate(ref a, s_wideReady, _loadWide);
        Begin(StubName.X87Gate, a);
        EmitGate(ref a, s_x87Ready, _loadX87);
        Begin(StubName.ClearInterruptFlag, a);
        EmitReplaceBit(ref a, s_rflags, 9, set: false);
        a.Return();
        Begin(StubName.SetInterruptFlag, a);
        EmitReplaceBit(ref a, s_rflags, 9, set: true);
        EmitReplaceBit(ref a, s_requestMask, 0, set: true);
        a.Return();
        Begin(StubName.ClearDirectionFlag, a);
        EmitReplaceBit(ref a, s_rflags, 10, set: false);
        a.Return();
        Begin(StubName.SetDirectionFlag, a);
        EmitReplaceBit(ref a, s_rflags, 10, set: true);
        a.Return();
        EmitFlags(ref a);
    }

    /// <summary>Sets or clears a bit of a field without touching flags: brought to the top, shifted out, replaced, brought back.</summary>
    private void EmitReplaceBit(ref HostAssembler a, int field, int bit, bool set)
    {
        bool wide = field != s_requestMask;
        // Called: the stack pointer is eight lower than usual.
        HostMemory m = HostMemory.State(field + 8);
        if (!_host.Bmi2)
        {
            EmitReplaceBitWithFlagsAside(ref a, m, bit, set);
            return;
        }

        if (!wide)
        {
            a.Load32(HostReg.R10, m);
            a.Rorx32(HostReg.R10, HostReg.R10, bit + 1);
            a.Lea32(HostReg.R10, new HostMemory(HostReg.R10, set ? 1 : 0, HostReg.R10));
            a.Rorx32(HostReg.R10, HostReg.R10, 32 - bit);
            a.Store32(m, HostReg.R10);
            return;
        }

        a.Load(HostReg.R10, m);
        a.Rorx(HostReg.R10, HostReg.R10, bit + 1);
        a.Lea(HostReg.R10, new HostMemory(HostReg.R10, set ? 1 : 0, HostReg.R10));
        a.Rorx(HostReg.R10, HostReg.R10, 64 - bit);
        a.Store(m, HostReg.R10);
    }

    private void EmitFlags(ref HostAssembler a)
    {
        Begin(StubName.Flags, a);
        if (!_host.Bmi2)
        {
            EmitFlagsWithFlagsAside(ref a);
            return;
        }

        HostMemory status = HostMemory.State(s_statusMask), other = HostMemory.State(s_otherMask);
        a.Byte(0x9C);
        a.Pop(HostReg.R11);
        // Called: the stack pointer is eight lower than usual, sixteen with R10 saved.
        a.Pext(HostReg.R11, HostReg.R11, status with { Displacement = status.Displacement + 8 });
        a.Pdep(HostReg.R11, HostReg.R11, status with { Displacement = status.Displacement + 8 });
        a.Push(HostReg.R10);
        a.Load(HostReg.R10, HostMemory.State(s_rflags + 16));
        a.Pext(HostReg.R10, HostReg.R10, other with { Displacement = other.Displacement + 16 });
        a.Pdep(HostReg.R10, HostReg.R10, other with { Displacement = other.Displacement + 16 });
        a.Lea(HostReg.R11, new HostMemory(HostReg.R11, 0, HostReg.R10));
        a.Pop(HostReg.R10);
        a.Return();
    }

    private void EmitEnter(ref HostAssembler a)
    {
        Enter = a.Next;
        EmitSwitch(ref a);
        a.Store(HostMemory.State(s_resume), HostReg.Rsi);
        EmitReload(ref a);
        a.JumpMemory(HostMemory.State(s_resume));
    }

    /// <summary>What managed code wants to find again is put on its stack, which is left for the vCPU's memory.</summary>
    private static void EmitSwitch(ref HostAssembler a)
    {
        foreach (HostReg r in s_preserved)
            a.Push(r);
        a.Store(new HostMemory(HostReg.Rdi, s_hostStack), HostReg.Rsp);
        a.Move(HostReg.Rsp, HostReg.Rdi);
    }

    private void EmitResume(ref HostAssembler a)
    {
        Resume = a.Next;
        EmitSwitch(ref a);
        a.Load32(HostReg.R12, HostMemory.State(s_exitSite));
        // TEST r12d, r12d; JNS
        a.Op(0x85, (int)HostReg.R12, HostReg.R12);
        byte* without = a.JumpIf(9);
        a.Call(_loadVectors);
        a.Bind(without);
        if (_host.Avx512)
            EmitLoadAgain(ref a, KeepWide, _loadWide);
        if (_host.Xsave)
            EmitLoadAgain(ref a, KeepX87, _loadX87);
        EmitReload(ref a);
        a.JumpMemory(HostMemory.State(s_resume));
    }

    /// <summary>Loads a state again where the site in R12D says so.</summary>
    private static void EmitLoadAgain(ref HostAssembler a, uint keep, byte* load)
    {
        // TEST r12d, imm32; JE
        a.Op(0xF7, 0, HostReg.R12);
        a.Int32((int)keep);
        byte* without = a.JumpIf(4);
        a.Call(load);
        a.Bind(without);
    }

    private static void EmitLeave(ref HostAssembler a)
    {
        a.Load(HostReg.Rsp, HostMemory.State(s_hostStack));
        for (int i = s_preserved.Length - 1; i >= 0; i--)
            a.Pop(s_preserved[i]);
    }

    private void EmitExit(ref HostAssembler a, TranslatedExit code, bool aside = false)
    {
        EmitSpill(ref a);
        EmitSaveLive(ref a);
        a.MoveImmediate(HostReg.Rax, (int)code);
        a.Jump(aside ? _leaveAside : _leave);
    }

    /// <summary>
    /// Called. Managed code is gone back to by a jump: the call that led here never returns, and a return now would not be where the processor predicts it.
    /// </summary>
    private void EmitInterpret(ref HostAssembler a, TranslatedExit code)
    {
        // POP to memory addresses with the stack pointer after the pop.
        a.Op(0x8F, 0, HostMemory.State(s_resume));
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        EmitExit(ref a, code, aside: true);
    }

    private void EmitGate(ref HostAssembler a, int ready, byte* load)
    {
        a.Move(HostReg.R10, HostReg.Rcx);
        a.Load32(HostReg.Rcx, Called(ready));
        byte* unable = a.JumpIfRcxZero();
        a.Move(HostReg.Rcx, HostReg.R10);
        if (load != null)
            a.Jump(load);
        a.BindShort(unable);
        a.Move(HostReg.Rcx, HostReg.R10);
        EmitInterpret(ref a, TranslatedExit.InterpretRest);
    }

    /// <summary>A field in a subroutine, whose return address is below it.</summary>
    private static HostMemory Called(int offset) => HostMemory.State(offset + 8);

    /// <summary>Saves the vector registers and the x87 state if they are loaded. Changes flags, RAX, RDX, R8 to R10: after the guest's registers are saved.</summary>
    private void EmitSaveLive(ref HostAssembler a)
    {
        EmitSaveLiveX87(ref a);
        // CMP dword, 0; JNE
        a.Op(0x83, 7, HostMemory.State(VectorIdleOffset));
        a.Byte(0);
        byte* idle = a.JumpIf(5);
        a.Call(_saveVectors);
        a.Bind(idle);
    }

    /// <summary>Guest registers and status flags to memory. Destroys RAX and the flags.</summary>
    private static void EmitSpill(ref HostAssembler a)
    {
        a.Store(RegisterMap.Slot(0), HostReg.Rax);
        EmitPackFlags(ref a);
        a.Store32(HostMemory.State(VcpuMemory.FlagsOffset), HostReg.Rax);
        for (int guest = 1; guest < 16; guest++)
        {
            if (!RegisterMap.InMemory(guest))
                a.Store(RegisterMap.Slot(guest), RegisterMap.Host(guest));
        }
    }

    private static void EmitReload(ref HostAssembler a)
    {
        for (int guest = 1; guest < 16; guest++)
        {
            if (!RegisterMap.InMemory(guest))
                a.Load(RegisterMap.Host(guest), RegisterMap.Slot(guest));
        }

        a.Load32(HostReg.Rax, HostMemory.State(VcpuMemory.FlagsOffset));
        EmitUnpackFlags(ref a);
        a.Load(HostReg.Rax, RegisterMap.Slot(0));
    }

    /// <summary>Status flags to AX. Changes no flag.</summary>
    public static void EmitPackFlags(ref HostAssembler a)
    {
        // AH = SF ZF AF PF CF, AL = OF.
        a.Byte(0x9F);
        a.Op(0x90 | HostOp.Map0F, 0, HostReg.Rax);
    }

    /// <summary>The same back. Changes AL.</summary>
    public static void EmitUnpackFlags(ref HostAssembler a)
    {
        // AL + 7Fh overflows exactly when AL is 1.
        a.Byte(0x04);
        a.Byte(0x7F);
        a.Byte(0x9E);
    }

    /// <summary>Status flags as <see cref="EmitSpill"/> leaves them.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong UnpackFlags(ulong word) => (word >> 8 & 0xD5) | (word & 1) << 11;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static ulong PackFlags(ulong flags) => (flags & 0xD5) << 8 | (flags >> 11 & 1);

    internal delegate byte* FieldOf(NativeCpu* n);

    /// <summary>Distance of a field from the stack pointer.</summary>
    internal static int OffsetOf(FieldOf field)
    {
        NativeCpu n;
        return VcpuMemory.StateOffset + (int)(field(&n) - (byte*)&n);
    }
}
