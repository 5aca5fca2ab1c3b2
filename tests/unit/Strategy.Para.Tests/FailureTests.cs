using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Strategy.Para.Tests;

/// <summary>What goes wrong in the VMM itself costs this domain and nothing else; what is not there is said.</summary>
public sealed unsafe class FailureTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Theory]
    [InlineData("interpreter")]
    [InlineData("translator")]
    public void An_exception_in_a_hypercall_ends_the_machine_and_holds_no_other_processor(string tier)
    {
        // When the test says so the guest unmaps a frame whose uses the test has taken away: the VMM notices, under the lock over page tables.
        byte[] code = PvCode.Assemble(a =>
        {
            Iced.Intel.Label wait = a.CreateLabel();
            a.mov(rbx, TestDomain.ScratchLinear);
            a.Label(ref wait);
            a.cmp(__qword_ptr[rbx], 0);
            a.je(wait);
            a.mov(rdi, TestDomain.Linear(TestDomain.Free));
            a.xor(esi, esi);
            a.xor(edx, edx);
            a.Hypercall(Hypercall.UpdateVaMapping);
            a.ud2();
        });
        using var d = new TestDomain(code, processors: 2, run: true, tier: tier);
        d.Frames.Find(TestDomain.Free)->TypeCount = 0;
        d.Poke(TestDomain.Scratch, 1);
        Assert.True(d.Machine.WaitForEnd(Limit) is not null, d.ToString());
        Assert.Equal(VmState.Crashed, d.Machine.State);
        Assert.Contains("no use to give back", d.Machine.StatusReason, StringComparison.Ordinal);
        // Another processor's call neither waits for ever nor works on with what was left.
        string? said = null;
        var other = new Thread(() => said = d.Machine.RunOnVcpu(1, v =>
        {
            VcpuState* s = v.State;
            (s->GuestKernel, s->Gpr[(int)Gpr.Rax], s->Gpr[(int)Gpr.Rdi]) = (1, Hypercall.UpdateVaMapping, TestDomain.ScratchLinear);
            return Assert.Throws<InvalidOperationException>(() => d.Domain.Vcpus[1].SystemCall(v.State)).Message;
        })) { IsBackground = true };
        other.Start();
        Assert.True(other.Join(Limit));
        Assert.Contains("failed before", said, StringComparison.Ordinal);
    }

    [Fact]
    public void Saving_is_refused_with_what_to_do_and_changes_nothing()
    {
        byte[] code = PvCode.Assemble(a =>
        {
            Iced.Intel.Label loop = a.CreateLabel();
            a.mov(rbx, TestDomain.ScratchLinear);
            a.Label(ref loop);
            a.inc(__qword_ptr[rbx]);
            a.jmp(loop);
        });
        using var d = new TestDomain(code, run: true);
        Assert.True(TestDomain.WaitFor(() => d.Peek(TestDomain.Scratch) != 0));
        d.Machine.Pause();
        VirtException e = Assert.Throws<VirtException>(() => d.Machine.Save());
        Assert.Equal("DeviceStateInvalid", e.ErrorId);
        Assert.Contains("Xen domain", e.Message, StringComparison.Ordinal);
        Assert.NotNull(e.RecommendedAction);
        Assert.Equal(VmState.Paused, d.Machine.State);
        ulong before = d.Peek(TestDomain.Scratch);
        d.Machine.Resume();
        Assert.True(TestDomain.WaitFor(() => d.Peek(TestDomain.Scratch) != before));
    }
}
