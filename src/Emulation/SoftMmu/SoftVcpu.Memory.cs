using System.Runtime.CompilerServices;
using VirtPS.X86;

namespace VirtPS.Emulation;

// Guest memory as instructions see it.
public sealed unsafe partial class SoftVcpu
{
    private void InitializeMemory()
    {
    }

    private void FreeMemory()
    {
    }

    internal bool Load<T>(SegmentName seg, ulong offset, out T value) where T : unmanaged
    {
        value = default;
        return false;
    }

    internal bool Store<T>(SegmentName seg, ulong offset, T value) where T : unmanaged => false;

    internal bool LoadBytes(SegmentName seg, ulong offset, void* dst, int n) => false;

    internal bool StoreBytes(SegmentName seg, ulong offset, void* src, int n) => false;

    internal bool ProbeWrite(SegmentName seg, ulong offset, int n) => false;

    internal bool LoadLinear<T>(ulong linear, bool supervisor, out T value) where T : unmanaged
    {
        value = default;
        return false;
    }

    internal bool StoreLinear<T>(ulong linear, bool supervisor, T value) where T : unmanaged => false;

    internal ulong EffectiveAddress(Op* op) => 0;

    internal void FlushTlb(bool global)
    {
    }

    internal void FlushTlbPage(ulong linear)
    {
    }

    /// <summary>INVPCID, and CR3 loads with PCIDs. No translation is kept over a PCID change, so this drops everything that is not global.</summary>
    internal void FlushTlbPcid(ulong pcid) => FlushTlb(global: false);

    /// <summary>
    /// After any change of CR0, CR4, EFER, CS, SS.DPL/CPL, RFLAGS.VM or AC, or a segment base or limit: recomputes what is derived from them and leaves the block.
    /// </summary>
    internal void ModeChanged() => LeaveBlock();

    public bool TryTranslate(ulong linear, out ulong gpa)
    {
        gpa = 0;
        return false;
    }
}
