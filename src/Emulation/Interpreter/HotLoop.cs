using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

// The interpreter's main loop. One case per hot instruction form; what is rare, or misses the TLB, goes to the form's complete handler in Op.Slow, so a
// case here never has to fault. Few locals and short bodies on purpose: the JIT stops optimising methods above 60,000 bytes of IL or 2,000 locals.
public sealed unsafe partial class SoftVcpu
{
    private const ulong PageMask = ~0xFFFul;

    private enum Executed
    {
        /// <summary>A request waits, or a handler asked to leave; RIP is at the next instruction.</summary>
        Left,

        /// <summary>A fault is recorded; RIP is at the instruction that met it.</summary>
        Fault,

        /// <summary>RIP is at a block that has been executed often enough to be translated, or is.</summary>
        Hot,
    }

    /// <summary>Executes blocks from S->Rip on.</summary>
    private Executed Execute()
    {
        byte* s = (byte*)S;
        NativeCpu* n = (NativeCpu*)s;
        Block* block;
        Op* op;
        TlbEntry* e;
        byte* p;
        Block** link;
        ulong a, b, c, r;
        ulong rip = n->State.Rip;

        block = FindBlock((rip + n->CodeBase) & n->LinearMask);
        if (block == null)
            return n->Leave != 0 ? Executed.Left : Executed.Fault;
    enter:
        if (--block->Heat < 0)
            return Executed.Hot;
        n->State.InstructionsRetired += block->Count;
        op = block->Ops;
        for (;; op++)
        {
            switch (op->Handler)
            {
                case HotForms.AddRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a + b;
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AddRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a + b;
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AddRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a + b;
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.AddMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a + b;
                    FlagsAdd(n, a, b, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.AddMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a + b;
                    FlagsAdd(n, a, b, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.OrRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.OrRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.OrRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.OrMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.OrMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.AdcRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = a + b + c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AdcRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = a + b + c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AdcRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    c = n->FlagCarry & 1;
                    r = a + b + c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.SbbRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = a - b - c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SbbRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = a - b - c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SbbRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    c = n->FlagCarry & 1;
                    r = a - b - c;
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.AndRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AndRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.AndRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.AndMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.AndMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.SubRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SubRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SubRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.SubMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.SubMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.Zero64:
                    *(ulong*)(s + op->RmOff) = 0;
                    FlagsLogic(n, 0);
                    continue;

                case HotForms.XorRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.XorRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.XorRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.XorMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.XorMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.CmpRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a - b;
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.TestRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestRI64:
                    a = *(ulong*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMR64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = *(ulong*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.AddRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AddRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(int)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AddRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = (ulong)(int)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.AddMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.AddMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = (ulong)(int)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.OrRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.OrRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.OrRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.OrMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.OrMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.AdcRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a + b + c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AdcRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a + b + c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AdcRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a + b + c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.SbbRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a - b - c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SbbRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a - b - c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SbbRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    c = n->FlagCarry & 1;
                    r = (ulong)(int)(a - b - c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.AndRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AndRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.AndRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.AndMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.AndMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.SubRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SubRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SubRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.SubMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.SubMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.Zero32:
                    *(ulong*)(s + op->RmOff) = 0;
                    FlagsLogic(n, 0);
                    continue;

                case HotForms.XorRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.XorRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.XorRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.XorMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.XorMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.CmpRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = (ulong)(int)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.TestRR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMR32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = (ulong)*(int*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.AddRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = (ulong)(sbyte)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.AddRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(sbyte)(a + b);
                    FlagsAdd(n, a, b, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.OrRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.OrRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.OrRM8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)(s + op->RegOff);
                    b = (ulong)*(sbyte*)p;
                    r = a | b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RegOff) = (byte)(r);
                    continue;

                case HotForms.OrMR8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a | b;
                    FlagsLogic(n, r);
                    *p = (byte)(r);
                    continue;

                case HotForms.OrMI8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = op->Imm;
                    r = a | b;
                    FlagsLogic(n, r);
                    *p = (byte)(r);
                    continue;

                case HotForms.AdcRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = (ulong)(sbyte)(a + b + c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.AdcRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = (ulong)(sbyte)(a + b + c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = r < a || (c != 0 && r == a) ? 1ul : 0;
                    n->FlagResult = r;
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.SbbRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    c = n->FlagCarry & 1;
                    r = (ulong)(sbyte)(a - b - c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.SbbRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    c = n->FlagCarry & 1;
                    r = (ulong)(sbyte)(a - b - c);
                    n->FlagXor = a ^ b ^ r;
                    n->FlagCarry = a < b || (c != 0 && a == b) ? 1ul : 0;
                    n->FlagResult = r;
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.AndRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.AndRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.AndRM8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)(s + op->RegOff);
                    b = (ulong)*(sbyte*)p;
                    r = a & b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RegOff) = (byte)(r);
                    continue;

                case HotForms.AndMR8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    *p = (byte)(r);
                    continue;

                case HotForms.AndMI8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    *p = (byte)(r);
                    continue;

                case HotForms.SubRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.SubRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.XorRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.XorRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = a ^ b;
                    FlagsLogic(n, r);
                    *(byte*)(s + op->RmOff) = (byte)(r);
                    continue;

                case HotForms.CmpRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpRM8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)(s + op->RegOff);
                    b = (ulong)*(sbyte*)p;
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMR8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMI8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = op->Imm;
                    r = (ulong)(sbyte)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.TestRR8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestRI8:
                    a = (ulong)*(sbyte*)(s + op->RmOff);
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMR8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = (ulong)*(sbyte*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMI8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(sbyte*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.CmpMR16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(short*)p;
                    b = (ulong)*(short*)(s + op->RegOff);
                    r = (ulong)(short)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.CmpMI16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(short*)p;
                    b = op->Imm;
                    r = (ulong)(short)(a - b);
                    FlagsSub(n, a, b, r);
                    continue;

                case HotForms.TestMR16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(short*)p;
                    b = (ulong)*(short*)(s + op->RegOff);
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.TestMI16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(short*)p;
                    b = op->Imm;
                    r = a & b;
                    FlagsLogic(n, r);
                    continue;

                case HotForms.MovRR64:
                    *(ulong*)(s + op->RmOff) = *(ulong*)(s + op->RegOff);
                    continue;

                case HotForms.MovRI64:
                    *(ulong*)(s + op->RmOff) = op->Imm;
                    continue;

                case HotForms.Load64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = *(ulong*)p;
                    continue;

                case HotForms.Store64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)p = *(ulong*)(s + op->RegOff);
                    continue;

                case HotForms.StoreI64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)p = op->Imm;
                    continue;

                case HotForms.MovRR32:
                    *(ulong*)(s + op->RmOff) = (uint)(*(uint*)(s + op->RegOff));
                    continue;

                case HotForms.MovRI32:
                    *(ulong*)(s + op->RmOff) = (uint)(op->Imm);
                    continue;

                case HotForms.Load32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (uint)(*(uint*)p);
                    continue;

                case HotForms.Store32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(uint*)p = (uint)(*(uint*)(s + op->RegOff));
                    continue;

                case HotForms.StoreI32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(uint*)p = (uint)(op->Imm);
                    continue;

                case HotForms.MovRR16:
                    *(ushort*)(s + op->RmOff) = (ushort)(*(ushort*)(s + op->RegOff));
                    continue;

                case HotForms.Load16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ushort*)(s + op->RegOff) = (ushort)(*(ushort*)p);
                    continue;

                case HotForms.Store16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ushort*)p = (ushort)(*(ushort*)(s + op->RegOff));
                    continue;

                case HotForms.StoreI16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ushort*)p = (ushort)(op->Imm);
                    continue;

                case HotForms.MovRR8:
                    *(byte*)(s + op->RmOff) = (byte)(*(byte*)(s + op->RegOff));
                    continue;

                case HotForms.MovRI8:
                    *(byte*)(s + op->RmOff) = (byte)(op->Imm);
                    continue;

                case HotForms.Load8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(byte*)(s + op->RegOff) = (byte)(*p);
                    continue;

                case HotForms.Store8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *p = (byte)(*(byte*)(s + op->RegOff));
                    continue;

                case HotForms.StoreI8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *p = (byte)(op->Imm);
                    continue;

                case HotForms.MovzxRR8:
                    *(ulong*)(s + op->RegOff) = *(byte*)(s + op->RmOff);
                    continue;

                case HotForms.MovzxRM8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = *p;
                    continue;

                case HotForms.MovsxRR32From8:
                    *(ulong*)(s + op->RegOff) = (uint)((ulong)*(sbyte*)(s + op->RmOff));
                    continue;

                case HotForms.MovsxRM32From8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (uint)((ulong)*(sbyte*)p);
                    continue;

                case HotForms.MovsxRR64From8:
                    *(ulong*)(s + op->RegOff) = (ulong)*(sbyte*)(s + op->RmOff);
                    continue;

                case HotForms.MovsxRM64From8:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFF)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (ulong)*(sbyte*)p;
                    continue;

                case HotForms.MovzxRR16:
                    *(ulong*)(s + op->RegOff) = *(ushort*)(s + op->RmOff);
                    continue;

                case HotForms.MovzxRM16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = *(ushort*)p;
                    continue;

                case HotForms.MovsxRR32From16:
                    *(ulong*)(s + op->RegOff) = (uint)((ulong)*(short*)(s + op->RmOff));
                    continue;

                case HotForms.MovsxRM32From16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (uint)((ulong)*(short*)p);
                    continue;

                case HotForms.MovsxRR64From16:
                    *(ulong*)(s + op->RegOff) = (ulong)*(short*)(s + op->RmOff);
                    continue;

                case HotForms.MovsxRM64From16:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFE)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (ulong)*(short*)p;
                    continue;

                case HotForms.MovsxdRR:
                    *(ulong*)(s + op->RegOff) = (ulong)*(int*)(s + op->RmOff);
                    continue;

                case HotForms.MovsxdRM:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    *(ulong*)(s + op->RegOff) = (ulong)*(int*)p;
                    continue;

                case HotForms.Lea64:
                    *(ulong*)(s + op->RegOff) = EffectiveOffset(s, op);
                    continue;

                case HotForms.Lea32:
                    *(ulong*)(s + op->RegOff) = (uint)(EffectiveOffset(s, op));
                    continue;

                case HotForms.LeaDisp64:
                    *(ulong*)(s + op->RegOff) = *(ulong*)(s + op->BaseOff) + (ulong)op->Disp;
                    continue;

                case HotForms.IncR64:
                    a = *(ulong*)(s + op->RmOff);
                    r = a + 1;
                    FlagsInc(n, a, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.IncM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    r = a + 1;
                    FlagsInc(n, a, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.DecR64:
                    a = *(ulong*)(s + op->RmOff);
                    r = a - 1;
                    FlagsDec(n, a, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.DecM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    r = a - 1;
                    FlagsDec(n, a, r);
                    *(ulong*)p = r;
                    continue;

                case HotForms.NegR64:
                    b = *(ulong*)(s + op->RmOff);
                    r = 0 - b;
                    FlagsSub(n, 0, b, r);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.NotR64:
                    *(ulong*)(s + op->RmOff) = ~*(ulong*)(s + op->RmOff);
                    continue;

                case HotForms.ShlRI64:
                    a = *(ulong*)(s + op->RmOff);
                    c = op->Imm & 63;
                    r = a << (int)c;
                    c = a >> (64 - (int)c) & 1;
                    FlagsShift(n, r, c, r >> 63 ^ c);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.ShrRI64:
                    a = *(ulong*)(s + op->RmOff);
                    c = op->Imm & 63;
                    b = a >> ((int)c - 1);
                    r = b >> 1;
                    FlagsShift(n, r, b & 1, b >> 63);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SarRI64:
                    a = *(ulong*)(s + op->RmOff);
                    c = op->Imm & 63;
                    b = (ulong)((long)a >> ((int)c - 1));
                    r = (ulong)((long)b >> 1);
                    FlagsShift(n, r, b & 1, 0);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.RolRI64:
                    r = ulong.RotateLeft(*(ulong*)(s + op->RmOff), (int)(op->Imm & 63));
                    *(ulong*)(s + op->RmOff) = r;
                    SetCarryAndOverflow(n, r & 1, (r >> 63 ^ r) & 1);
                    continue;

                case HotForms.RorRI64:
                    r = ulong.RotateRight(*(ulong*)(s + op->RmOff), (int)(op->Imm & 63));
                    *(ulong*)(s + op->RmOff) = r;
                    SetCarryAndOverflow(n, r >> 63 & 1, (r >> 63 ^ r >> 62) & 1);
                    continue;

                case HotForms.ShlRC64:
                    c = *(ulong*)(s + 8) & 63;
                    if (c == 0)
                        goto slow;
                    r = Shl64(n, *(ulong*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.ShrRC64:
                    c = *(ulong*)(s + 8) & 63;
                    if (c == 0)
                        goto slow;
                    r = Shr64(n, *(ulong*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.SarRC64:
                    c = *(ulong*)(s + 8) & 63;
                    if (c == 0)
                        goto slow;
                    r = Sar64(n, *(ulong*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.ImulRR64:
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)(s + op->RmOff);
                    r = Imul64(n, a, b);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.ImulRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)(s + op->RegOff);
                    b = *(ulong*)p;
                    r = Imul64(n, a, b);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.ImulRI64:
                    a = *(ulong*)(s + op->RmOff);
                    r = Imul64(n, a, op->Imm);
                    *(ulong*)(s + op->RegOff) = r;
                    continue;

                case HotForms.XchgRR64:
                    a = *(ulong*)(s + op->RmOff);
                    b = *(ulong*)(s + op->RegOff);
                    *(ulong*)(s + op->RmOff) = b;
                    *(ulong*)(s + op->RegOff) = a;
                    continue;

                case HotForms.BtRI64:
                    SetCarry(n, *(ulong*)(s + op->RmOff) >> (int)(op->Imm & 63) & 1);
                    continue;

                case HotForms.BtRR64:
                    SetCarry(n, *(ulong*)(s + op->RmOff) >> (int)(*(ulong*)(s + op->RegOff) & 63) & 1);
                    continue;

                case HotForms.CmovRR64:
                    a = Condition(n, op->Reg3) ? *(ulong*)(s + op->RmOff) : *(ulong*)(s + op->RegOff);
                    *(ulong*)(s + op->RegOff) = a;
                    continue;

                case HotForms.CmovRM64:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = Condition(n, op->Reg3) ? *(ulong*)p : *(ulong*)(s + op->RegOff);
                    *(ulong*)(s + op->RegOff) = a;
                    continue;

                case HotForms.IncR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    r = (ulong)(int)(a + 1);
                    FlagsInc(n, a, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.IncM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    r = (ulong)(int)(a + 1);
                    FlagsInc(n, a, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.DecR32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    r = (ulong)(int)(a - 1);
                    FlagsDec(n, a, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.DecM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)p;
                    r = (ulong)(int)(a - 1);
                    FlagsDec(n, a, r);
                    *(uint*)p = (uint)(r);
                    continue;

                case HotForms.NegR32:
                    b = (ulong)*(int*)(s + op->RmOff);
                    r = (ulong)(int)(0 - b);
                    FlagsSub(n, 0, b, r);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.NotR32:
                    *(ulong*)(s + op->RmOff) = (uint)(~*(uint*)(s + op->RmOff));
                    continue;

                case HotForms.ShlRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    c = op->Imm & 31;
                    r = (ulong)(int)(a << (int)c);
                    c = a >> (32 - (int)c) & 1;
                    FlagsShift(n, r, c, r >> 63 ^ c);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.ShrRI32:
                    a = *(uint*)(s + op->RmOff);
                    c = op->Imm & 31;
                    b = a >> ((int)c - 1);
                    r = b >> 1;
                    FlagsShift(n, (ulong)(int)(r), b & 1, (ulong)(int)(b) >> 63);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SarRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    c = op->Imm & 31;
                    b = (ulong)((long)a >> ((int)c - 1));
                    r = (ulong)((long)b >> 1);
                    FlagsShift(n, r, b & 1, 0);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.RolRI32:
                    r = uint.RotateLeft(*(uint*)(s + op->RmOff), (int)(op->Imm & 31));
                    *(ulong*)(s + op->RmOff) = r;
                    SetCarryAndOverflow(n, r & 1, (r >> 31 ^ r) & 1);
                    continue;

                case HotForms.RorRI32:
                    r = uint.RotateRight(*(uint*)(s + op->RmOff), (int)(op->Imm & 31));
                    *(ulong*)(s + op->RmOff) = r;
                    SetCarryAndOverflow(n, r >> 31 & 1, (r >> 31 ^ r >> 30) & 1);
                    continue;

                case HotForms.ShlRC32:
                    c = *(ulong*)(s + 8) & 31;
                    if (c == 0)
                        goto slow;
                    r = Shl32(n, *(uint*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.ShrRC32:
                    c = *(ulong*)(s + 8) & 31;
                    if (c == 0)
                        goto slow;
                    r = Shr32(n, *(uint*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.SarRC32:
                    c = *(ulong*)(s + 8) & 31;
                    if (c == 0)
                        goto slow;
                    r = Sar32(n, *(uint*)(s + op->RmOff), (int)c);
                    *(ulong*)(s + op->RmOff) = (uint)(r);
                    continue;

                case HotForms.ImulRR32:
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)(s + op->RmOff);
                    r = Imul32(n, a, b);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.ImulRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = (ulong)*(int*)(s + op->RegOff);
                    b = (ulong)*(int*)p;
                    r = Imul32(n, a, b);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.ImulRI32:
                    a = (ulong)*(int*)(s + op->RmOff);
                    r = Imul32(n, a, op->Imm);
                    *(ulong*)(s + op->RegOff) = (uint)(r);
                    continue;

                case HotForms.XchgRR32:
                    a = *(uint*)(s + op->RmOff);
                    b = *(uint*)(s + op->RegOff);
                    *(ulong*)(s + op->RmOff) = (uint)(b);
                    *(ulong*)(s + op->RegOff) = (uint)(a);
                    continue;

                case HotForms.BtRI32:
                    SetCarry(n, *(uint*)(s + op->RmOff) >> (int)(op->Imm & 31) & 1);
                    continue;

                case HotForms.BtRR32:
                    SetCarry(n, *(uint*)(s + op->RmOff) >> (int)(*(ulong*)(s + op->RegOff) & 31) & 1);
                    continue;

                case HotForms.CmovRR32:
                    a = Condition(n, op->Reg3) ? *(uint*)(s + op->RmOff) : *(uint*)(s + op->RegOff);
                    *(ulong*)(s + op->RegOff) = (uint)(a);
                    continue;

                case HotForms.CmovRM32:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFFC)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = Condition(n, op->Reg3) ? *(uint*)p : *(uint*)(s + op->RegOff);
                    *(ulong*)(s + op->RegOff) = (uint)(a);
                    continue;

                case HotForms.SetccR:
                    *(s + op->RmOff) = Condition(n, op->Reg3) ? (byte)1 : (byte)0;
                    continue;

                case HotForms.BswapR32:
                    *(ulong*)(s + op->RmOff) = BinaryPrimitives.ReverseEndianness(*(uint*)(s + op->RmOff));
                    continue;

                case HotForms.BswapR64:
                    *(ulong*)(s + op->RmOff) = BinaryPrimitives.ReverseEndianness(*(ulong*)(s + op->RmOff));
                    continue;

                case HotForms.Cdqe:
                    *(long*)s = *(int*)s;
                    continue;

                case HotForms.Cqo:
                    *(long*)(s + 16) = *(long*)s >> 63;
                    continue;

                case HotForms.Cdq:
                    *(ulong*)(s + 16) = (uint)(*(int*)s >> 31);
                    continue;

                case HotForms.Nop:
                    continue;

                case HotForms.PushR:
                    a = *(ulong*)(s + 32) - 8;
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    *(ulong*)(a + e->Addend) = *(ulong*)(s + op->RmOff);
                    *(ulong*)(s + 32) = a;
                    continue;

                case HotForms.PushI:
                    a = *(ulong*)(s + 32) - 8;
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    *(ulong*)(a + e->Addend) = op->Imm;
                    *(ulong*)(s + 32) = a;
                    continue;

                case HotForms.PopR:
                    a = *(ulong*)(s + 32);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    r = *(ulong*)(a + e->Addend);
                    *(ulong*)(s + 32) = a + 8;
                    *(ulong*)(s + op->RmOff) = r;
                    continue;

                case HotForms.Leave:
                    a = *(ulong*)(s + 40);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    *(ulong*)(s + 40) = *(ulong*)(a + e->Addend);
                    *(ulong*)(s + 32) = a + 8;
                    continue;

                case HotForms.CallRel:
                    a = *(ulong*)(s + 32) - 8;
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    *(ulong*)(a + e->Addend) = rip + (ulong)op->Offset + op->Length;
                    *(ulong*)(s + 32) = a;
                    a = rip + op->Imm;
                    goto linked;

                case HotForms.CallR:
                    b = *(ulong*)(s + op->RmOff);
                    if (!IsCanonical(b))
                        goto slow;
                    a = *(ulong*)(s + 32) - 8;
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    *(ulong*)(a + e->Addend) = rip + (ulong)op->Offset + op->Length;
                    *(ulong*)(s + 32) = a;
                    a = b;
                    goto indirect;

                case HotForms.CallM:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    b = *(ulong*)p;
                    if (!IsCanonical(b))
                        goto slow;
                    a = *(ulong*)(s + 32) - 8;
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->WriteTag > 0xFF8)
                        goto slow;
                    *(ulong*)(a + e->Addend) = rip + (ulong)op->Offset + op->Length;
                    *(ulong*)(s + 32) = a;
                    a = b;
                    goto indirect;

                case HotForms.JmpRel:
                    a = rip + op->Imm;
                    goto linked;

                case HotForms.JmpR:
                    a = *(ulong*)(s + op->RmOff);
                    if (!IsCanonical(a))
                        goto slow;
                    goto indirect;

                case HotForms.JmpM:
                    a = Address(s, op);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    p = (byte*)(a + e->Addend);
                    a = *(ulong*)p;
                    if (!IsCanonical(a))
                        goto slow;
                    goto indirect;

                case HotForms.Ret:
                    a = *(ulong*)(s + 32);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    r = *(ulong*)(a + e->Addend);
                    if (!IsCanonical(r))
                        goto slow;
                    *(ulong*)(s + 32) = a + 8;
                    a = r;
                    goto indirect;

                case HotForms.RetI:
                    a = *(ulong*)(s + 32);
                    e = Tlb.Entry(n->Tlb, a);
                    if (a + e->ReadTag > 0xFF8)
                        goto slow;
                    r = *(ulong*)(a + e->Addend);
                    if (!IsCanonical(r))
                        goto slow;
                    *(ulong*)(s + 32) = a + 8;
                    *(ulong*)(s + 32) += op->Imm & 0xFFFF;
                    a = r;
                    goto indirect;

                case HotForms.Jo:
                    if (n->OF())
                        goto taken;
                    continue;

                case HotForms.Jno:
                    if (!n->OF())
                        goto taken;
                    continue;

                case HotForms.Jb:
                    if (n->CF())
                        goto taken;
                    continue;

                case HotForms.Jae:
                    if (!n->CF())
                        goto taken;
                    continue;

                case HotForms.Je:
                    if (n->FlagResult == 0)
                        goto taken;
                    continue;

                case HotForms.Jne:
                    if (n->FlagResult != 0)
                        goto taken;
                    continue;

                case HotForms.Jbe:
                    if (n->CF() || n->FlagResult == 0)
                        goto taken;
                    continue;

                case HotForms.Ja:
                    if (!n->CF() && n->FlagResult != 0)
                        goto taken;
                    continue;

                case HotForms.Js:
                    if (n->SF())
                        goto taken;
                    continue;

                case HotForms.Jns:
                    if (!n->SF())
                        goto taken;
                    continue;

                case HotForms.Jp:
                    if (n->PF())
                        goto taken;
                    continue;

                case HotForms.Jnp:
                    if (!n->PF())
                        goto taken;
                    continue;

                case HotForms.Jl:
                    if (n->Less())
                        goto taken;
                    continue;

                case HotForms.Jge:
                    if (!n->Less())
                        goto taken;
                    continue;

                case HotForms.Jle:
                    if (n->FlagResult == 0 || n->Less())
                        goto taken;
                    continue;

                case HotForms.Jg:
                    if (n->FlagResult != 0 && !n->Less())
                        goto taken;
                    continue;

                case HotForms.End:
                    a = rip + (ulong)op->Offset;
                    goto linked;

                default:
                    goto slow;
            }

        taken:
            // The instructions behind a taken branch were counted on entry.
            n->State.InstructionsRetired -= (ulong)op->Disp;
            a = rip + op->Imm;
        linked:
            link = (Block**)&op->AddrMask;
            rip = a & n->RipMask;
            n->State.Rip = rip;
            if ((n->State.Requests & n->RequestMask) != 0)
                return Executed.Left;
            a = (rip + n->CodeBase) & n->LinearMask;
            block = *link;
            if (block != null && block->Linear == a && block->MapGeneration == n->MapGeneration && block->Mode == n->Mode
                && block->Generation == *block->GenerationNow)
                goto enter;
            block = FindBlock(a);
            if (block == null)
                return n->Leave != 0 ? Executed.Left : Executed.Fault;
            *link = block;
            goto enter;

        indirect:
            rip = a & n->RipMask;
            n->State.Rip = rip;
            if ((n->State.Requests & n->RequestMask) != 0)
                return Executed.Left;
            a = (rip + n->CodeBase) & n->LinearMask;
            block = n->JumpCache[JumpIndex(a)];
            if (block != null && block->Linear == a && block->MapGeneration == n->MapGeneration && block->Mode == n->Mode
                && block->Generation == *block->GenerationNow)
                goto enter;
            block = FindBlock(a);
            if (block == null)
                return n->Leave != 0 ? Executed.Left : Executed.Fault;
            goto enter;

        slow:
            n->State.Rip = (rip + (ulong)op->Offset) & n->RipMask;
            if (!op->Slow(this, op))
            {
                n->State.InstructionsRetired -= block->Count - (ulong)(op - block->Ops);
                return Executed.Fault;
            }

            // A handler may have changed the very code that follows, through memory or a device.
            if ((n->Leave | n->RipSet) == 0 && block->Generation == *block->GenerationNow)
            {
                n->State.Rip = rip;
                continue;
            }

            n->State.InstructionsRetired -= block->Count - (ulong)(op - block->Ops) - 1;
            if (n->RipSet == 0)
                n->State.Rip = (rip + (ulong)op->Offset + op->Length) & n->RipMask;
            n->RipSet = 0;
            if (n->Leave != 0)
                return Executed.Left;
            a = n->State.Rip;
            goto indirect;
        }
    }
}
