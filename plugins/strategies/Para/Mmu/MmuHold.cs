namespace VirtPS.Strategy.Para.Mmu;

/// <summary>The lock over page types, page tables and grants while it is held; see <see cref="XenDomain.EnterMmu"/>. Given back whatever happens: a vCPU that waits for it must not wait for ever.</summary>
internal readonly ref struct MmuHold(object gate)
{
    public void Dispose() => Monitor.Exit(gate);
}
