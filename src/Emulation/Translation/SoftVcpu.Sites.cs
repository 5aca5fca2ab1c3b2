using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using VirtPS.Emulation.Thunks;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.Emulation;

// What generated code asks of the interpreter: one instruction, or the rest of a block.
public sealed unsafe partial class SoftVcpu
{
    [UnmanagedCallersOnly]
    private static int InterpretForGeneratedCode(NativeCpu* n, uint site)
    {
        var cpu = Unsafe.As<SoftVcpu>(GCHandle.FromIntPtr(n->Self).Target!);
        try
        {
            return (int)cpu.InterpretSite(site);
        }
        catch (Exception e)
        {
            // It cannot pass generated code; thrown again on the other side.
            cpu._escaped = ExceptionDispatchInfo.Capture(e);
            return (int)TranslatedExit.Exception;
        }
    }

    [UnmanagedCallersOnly]
    private static int InterpretRestForGeneratedCode(NativeCpu* n, uint site)
    {
        var cpu = Unsafe.As<SoftVcpu>(GCHandle.FromIntPtr(n->Self).Target!);
        try
        {
            return (int)cpu.InterpretRest(site);
        }
        catch (Exception e)
        {
            cpu._escaped = ExceptionDispatchInfo.Capture(e);
            return (int)TranslatedExit.Exception;
        }
    }

    /// <summary>
    /// Whether generated code may have the guest's vector registers in the host's: no control bit makes SSE or AVX fault, and no exception is unmasked. With less
    /// (an operating system without AVX) the interpreter executes vector instructions.
    /// </summary>
    private uint VectorsReady()
    {
        const ulong Components = Xcr0.Sse | Xcr0.Avx;
        const uint Masks = ThunkFrame.MxcsrDefault;
        // A host without AVX lends SSE instructions only, which XCR0 does not govern.
        bool avx = Partition.Engine.Host.Avx;
        ulong controls = avx ? Cr4.OSFXSR | Cr4.OSXSAVE : Cr4.OSFXSR;
        return (S->Cr0 & (Cr0.EM | Cr0.TS)) == 0 && (S->Cr4 & controls) == controls && (!avx || (S->Xcr0 & Components) == Components)
            && (VectorFile.MxcsrOf(S) & Masks) == Masks ? 1u : 0;
    }

    /// <summary>Whether generated code may have the guest's x87 state in the host's: x87 and MMX do not fault for control bits, everything is masked and nothing pending.</summary>
    private uint X87StateReady() =>
        (S->Cr0 & (Cr0.EM | Cr0.TS)) == 0 && (VectorFile.FcwOf(S) & VectorFile.X87Exceptions) == VectorFile.X87Exceptions && !X87Pending() ? 1u : 0;

    /// <summary>Interprets from a site to the end of its block, or to where it is left; never <see cref="TranslatedExit.None"/>.</summary>
    private TranslatedExit InterpretRest(uint site)
    {
        const uint Next = 1 << 6 | 1;
        for (;; site += Next)
        {
            TranslatedExit exit = InterpretSite(site);
            if (exit != TranslatedExit.None)
                return exit;
            uint index = site & 63;
            Op* op = _arena!.OpAt((int)(site >> 6));
            var block = (Block*)(op - index) - 1;
            // A trace goes on elsewhere behind a branch that was not taken now.
            if (index + 1 < block->Count && op[1].Offset == op->Offset + op->Length)
                continue;
            *_memory.Hot(VcpuMemory.RetiredOffset) += index + 1;
            S->Rip = (S->Rip + op->Length) & N->RipMask;
            return TranslatedExit.Continue;
        }
    }

    private TranslatedExit InterpretSite(uint site)
    {
        NativeCpu* n = N;
        bool keepVectors = (site & Stubs.KeepVectors) != 0, keepX87 = (site & Stubs.KeepX87) != 0;
        site &= ~(Stubs.KeepVectors | Stubs.KeepX87);
        uint index = site & 63;
        Op* op = _arena!.OpAt((int)(site >> 6));
        var block = (Block*)(op - index) - 1;
        ulong rip = StartOf(block) + (ulong)op->Offset;
        S->Rip = rip;
        n->SetStatusFlags(Stubs.UnpackFlags(*_memory.Hot(VcpuMemory.FlagsOffset)));
        ulong* retired = _memory.Hot(VcpuMemory.RetiredOffset);
        uint changes = _tlbChanges;
        _engine.CountCall(op);
        _lockStep?.Arrive((int)index);
        if (!op->Slow(this, op))
        {
            *retired += index;
            return TranslatedExit.Fault;
        }

        (n->VectorReady, n->X87Ready) = (VectorsReady(), X87StateReady());
        // An instruction that spoke to a device may have raised a request for this vCPU; and what the block has pinned holds only as long as nothing is dropped.
        if ((n->Leave | n->RipSet) == 0 && !op->Has(OpFlags.EndsBlock) && block->IsFresh && changes == _tlbChanges
            && (S->Requests & n->RequestMask) == 0 && (!keepVectors || n->VectorReady != 0) && (!keepX87 || n->X87Ready != 0))
        {
            _lockStep?.Begin(block, (int)index + 1);
            *_memory.Hot(VcpuMemory.FlagsOffset) = Stubs.PackFlags(n->StatusFlags());
            return TranslatedExit.None;
        }

        *retired += index + 1;
        if (n->RipSet == 0)
            S->Rip = (rip + op->Length) & n->RipMask;
        n->RipSet = 0;
        return n->Leave != 0 ? TranslatedExit.Leave : TranslatedExit.Continue;
    }
}
