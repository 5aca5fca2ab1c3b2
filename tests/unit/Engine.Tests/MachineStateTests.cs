using System.Text.Json.Nodes;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Rings;

namespace VirtPS.Engine.Tests;

/// <summary>A machine saved, and taken over by another.</summary>
public unsafe class MachineStateTests
{
    [Fact]
    public void Whole_machine_is_saved_in_mid_operation_and_goes_on_in_a_fresh_one()
    {
        static VcpuExit Count(ScriptedVcpu v)
        {
            while (true)
            {
                if (v.Boundary() is { } exit)
                    return exit;
                v.State->Gpr[0]++;
                v.Out(0x500, v.In(0x500, 4) + 1, 4);
            }
        }

        VcpuExit Script(ScriptedVcpu v) => Count(v);
        using var memory = new MemoryStream();
        MachineState saved;
        ulong rax, now;
        uint value;
        var first = new TestDevice();
        using (Machine a = Make.Machine(Script, out ScriptedStrategy s, null, MachineTests.Port(first, 0x500)))
        {
            a.PowerOn(startPaused: true);
            a.RunOnVcpu(0, v =>
            {
                v.State->Lstar = 0xFFFF_8000_0000_1000;
                v.State->Xsave[500] = 0xAB;
                v.State->Pending = new PendingEvent { Kind = EventKind.HardwareException, Vector = 14, HasErrorCode = true, ErrorCode = 6 };
                return v.State->OtherMsrs[5] = 42;
            });
            Assert.True(a.Memory.TryWrite(0x4321, 0xDEADBEEF));
            a.Resume();
            Assert.True(Make.Within(5, () => first.Value > 1000));
            a.Pause();
            saved = MachineState.FromJson(a.Save().ToJson());
            a.SaveMemory(memory);
            (rax, now, value) = (s.Vcpus[0].State->Gpr[0], a.Clock.Now, first.Value);
        }

        Assert.True(memory.Length < 16 * 4096);
        memory.Position = 0;
        var second = new TestDevice();
        using Machine b = Make.Machine(Script, out ScriptedStrategy t, null, MachineTests.Port(second, 0x500));
        b.RestoreMemory(memory);
        b.Restore(saved);
        Assert.Equal(VmState.Paused, b.State);
        VcpuState* state = t.Vcpus[0].State;
        Assert.Equal((rax, now, value), (state->Gpr[0], b.Clock.Now, second.Value));
        Assert.Equal((0xFFFF_8000_0000_1000ul, (byte)0xAB, 42ul), (state->Lstar, state->Xsave[500], state->OtherMsrs[5]));
        Assert.Equal((14, EventKind.HardwareException, true, 6u), (state->Pending.Vector, state->Pending.Kind, state->Pending.HasErrorCode, state->Pending.ErrorCode));
        Assert.True(b.Memory.TryRead(0x4321, out uint word));
        Assert.Equal(0xDEADBEEF, word);
        b.Resume();
        Assert.True(Make.Within(5, () => second.Value > value));
        b.Pause();
        Assert.Equal(state->Gpr[0] - rax, second.Value - value);
        Assert.True(b.Clock.Now > now);
    }

    [Fact]
    public void A_state_of_another_machine_is_refused_with_the_difference()
    {
        MachineState saved;
        using (Machine a = Make.Machine(v => v.Spin(), out _, null, MachineTests.Port(new TestDevice(), 0x500)))
        {
            a.PowerOn(startPaused: true);
            saved = a.Save();
        }

        using Machine b = Make.Machine(v => v.Spin(), out _, Make.Configuration(vcpus: 2), MachineTests.Port(new TestDevice(), 0x500));
        Assert.Contains("vCPUs", Assert.Throws<VirtException>(() => b.Restore(saved)).Message);
        using Machine c = Make.Machine(v => v.Spin(), out _);
        Assert.Contains("'dev'", Assert.Throws<VirtException>(() => c.Restore(saved)).Message);
        Assert.Equal("MachineStateInvalid", Assert.Throws<VirtException>(() => MachineState.FromJson("{\"strategy\":"u8)).ErrorId);
    }

    /// <summary>States of the time before AVX-512 have a shorter save area.</summary>
    [Theory]
    [InlineData(VcpuState.AvxXsaveSize, true)]
    [InlineData(VcpuState.AvxXsaveSize + 64, false)]
    public void A_state_without_AVX_512_is_taken_and_one_of_another_length_refused(int length, bool taken)
    {
        MachineState saved;
        using (Machine a = Make.Machine(v => v.Spin(), out _))
        {
            a.PowerOn(startPaused: true);
            a.RunOnVcpu(0, v => v.State->Xsave[200] = 0xAB);
            saved = a.Save();
        }

        saved = saved with { Vcpus = [saved.Vcpus[0] with { Xsave = saved.Vcpus[0].Xsave[..length] }] };
        using Machine b = Make.Machine(v => v.Spin(), out ScriptedStrategy t);
        if (!taken)
        {
            Assert.Equal("MachineStateInvalid", Assert.Throws<VirtException>(() => b.Restore(saved)).ErrorId);
            return;
        }

        b.Restore(saved);
        var area = new ReadOnlySpan<byte>(t.Vcpus[0].State->Xsave, VcpuState.XsaveSize);
        Assert.Equal(0xAB, area[200]);
        Assert.Equal(-1, area[VcpuState.AvxXsaveSize..].IndexOfAnyExcept((byte)0));
    }

    /// <summary>A processor without AVX-512 cannot take over registers that a guest has there.</summary>
    [Fact]
    public void A_state_with_registers_that_this_processor_lacks_is_refused()
    {
        MachineState saved;
        using (Machine a = Make.Machine(v => v.Spin(), out _))
        {
            a.PowerOn(startPaused: true);
            saved = a.Save();
        }

        VcpuSnapshot vcpu = saved.Vcpus[0];
        Assert.Equal(1ul, vcpu.Registers["XCR0"]);
        saved = saved with { Vcpus = [vcpu with { Registers = new Dictionary<string, ulong>(vcpu.Registers) { ["XCR0"] = 0xE7 } }] };
        var strategy = new ScriptedStrategy(v => v.Spin()) { Cpuid = new CpuidPolicy([new((0xD, 0), new CpuidResult(7, 576, 832, 0))]) };
        using Machine b = Make.Builder(strategy).Build();
        VirtException e = Assert.Throws<VirtException>(() => b.Restore(saved));
        Assert.Equal("MachineStateInvalid", e.ErrorId);
        Assert.Contains("E7h", e.Message, StringComparison.Ordinal);
    }
}
