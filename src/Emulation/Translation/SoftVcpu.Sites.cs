using System.Runtime.CompilerServices;
using VirtPS.Emulation.Thunks;
using VirtPS.X86;

namespace VirtPS.Emulation;

// What generated code asks of the interpreter: one instruction, or the rest of a block.
public sealed unsafe partial class SoftVcpu
{
    /// <summary>
    /// Whether generated code may have the guest's vector registers in the host's: no control bit makes SSE or AVX fault, and no exception is unmasked. With less
    /// (an operating system without AVX) the interpreter executes vector instructions.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint VectorsReady() =>
        (S->Cr0 & (Cr0.EM | Cr0.TS) | ~S->Cr4 & _vectorControls | ~S->Xcr0 & _vectorComponents | ~(ulong)VectorFile.MxcsrOf(S) & ThunkFrame.MxcsrDefault) == 0 ? 1u : 0;

    /// <summary>The same of the AVX-512 state.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint WideReady(uint vectorsReady) => (~S->Xcr0 & Xcr0.Avx512) == 0 ? vectorsReady : 0;

    /// <summary>Whether generated code may have the guest's x87 state in the host's: x87 and MMX do not fault for control bits, everything is masked and nothing pending.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private uint X87StateReady() =>
        (S->Cr0 & (Cr0.EM | Cr0.TS) | ~(ulong)VectorFile.FcwOf(S) & VectorFile.X87Exceptions) == 0 && !X87Pending() ? 1u : 0;

    /// <summary>Tells generated code what it may load.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void SetReady()
    {
        (N->VectorReady, N->X87Ready) = (VectorsReady(), X87StateReady());
        N->WideReady = WideReady(N->VectorReady);
    }

    /// <summary>Interprets from a site to the end of its block, or to where it is left; never <see cref="TranslatedExit.None"/>.</summary>
    private TranslatedExit InterpretRest(uint site)
    {
        const uint Next = 1 << Relocation.SiteIndexBits | 1;
        for (;; site += Next)
        {
            TranslatedExit exit = InterpretSite(site);
            if (exit != TranslatedExit.None)
                return exit;
            uint index = site & Relocation.SiteIndexMask;
            Op* op = _arena!.OpAt((int)(site >> Relocation.SiteIndexBits));
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
        bool keepVectors = (site & Stubs.KeepVectors) != 0, keepX87 = (site & Stubs.KeepX87) != 0, keepWide = (site & Stubs.KeepWide) != 0;
        site &= ~(Stubs.KeepVectors | Stubs.KeepX87 | Stubs.KeepWide);
        uint index = site & Relocation.SiteIndexMask;
        Op* op = _arena!.OpAt((int)(site >> Relocation.SiteIndexBits));
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

        SetReady();
        // An instruction that spoke to a device may have raised a request for this vCPU; and what the block has pinned holds only as long as nothing is dropped.
        if ((n->Leave | n->RipSet) == 0 && !op->Has(OpFlags.EndsBlock) && block->IsFresh && changes == _tlbChanges
            && (S->Requests & n->RequestMask) == 0 && (!keepVectors || n->VectorReady != 0) && (!keepX87 || n->X87Ready != 0) && (!keepWide || n->WideReady != 0))
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
