using Iced.Intel;
using VirtPS.Lockstep;
using VirtPS.Sdk.Testing.Conformance;
using VirtPS.Strategy.Hardware;
using VirtPS.Strategy.Full;
using VirtPS.X86;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// The lists of what is left out under the emulated kvm-amd are no longer than they must be: every entry differs on QEMU's processor alone too. That it does so in the same way is looked at by
/// <see cref="NestedKvmTests"/>, which has the other side.
/// </summary>
public sealed class BareQemuTests
{
    public BareQemuTests() => Assert.SkipUnless(File.Exists(BareQemu.Program), "No qemu-system-x86_64 on this machine (Debian: qemu-system-x86).");

    public static TheoryData<string> Checks => [.. EmulatedHost.Differs.Select(d => d.Name)];

    public static TheoryData<string> Guests => [.. KnownDifferences.EmulatedProcessor.Append(KnownDifferences.ResumeFlag).Append(KnownDifferences.Borrowed).Select(c => c.Name)];

    [Theory]
    [MemberData(nameof(Checks))]
    public void A_check_that_is_left_out_fails_on_QEMUs_processor_alone(string name) => Assert.NotNull(EmulatedHost.Alone(name));

    [Theory]
    [MemberData(nameof(Guests))]
    public void A_guest_that_is_left_out_differs_on_QEMUs_processor_alone(string name) => Assert.NotNull(EmulatedHost.Alone(PrivilegedCases.All.Single(c => c.Name == name)));

    /// <summary>So that a difference found is not this harness's: most of the suite passes there.</summary>
    [Theory]
    [InlineData("Exceptions: triple fault: Shutdown")]
    [InlineData("Exceptions: #DF(0) when #GP cannot be delivered")]
    [InlineData("Exceptions: interrupt stack table")]
    [InlineData("Privilege: ring 3 to ring 0 by a gate")]
    [InlineData("Privilege: SYSCALL and SYSRET")]
    [InlineData("Privilege: SMAP")]
    [InlineData("Paging: a CR3 load makes changed entries seen")]
    [InlineData("Registers: every general register is loaded")]
    public void What_is_right_there_passes(string name) => Assert.Null(EmulatedHost.Alone(name));

    [Theory]
    [InlineData("far jump and call through memory")]
    [InlineData("far return to compatibility mode and back")]
    [InlineData("POPFQ in ring 0: all bits")]
    [InlineData("MSRs of system calls")]
    [InlineData("0F 18 /4 is a NOP")]
    [InlineData("64-bit ADCX and ADOX")]
    [InlineData("gather by another index register")]
    public void A_guest_that_is_compared_agrees_there(string name) => Assert.Null(EmulatedHost.Alone(PrivilegedCases.All.Single(c => c.Name == name)));

    /// <summary>A paravirtual KVM's ring 0 is that emulator, with no QEMU near.</summary>
    [Fact]
    public void KVMs_emulator_drops_the_upper_half_of_CR4()
    {
        using (KvmDevice? kvm = KvmDevice.TryOpen("/dev/kvm", out Sdk.Plugins.HostSupport support))
            Assert.SkipWhen(kvm is null, support.Reason);
        Assert.SkipUnless(KvmDevice.IsParavirtual, "Only a paravirtual KVM emulates every instruction of ring 0.");
        string? difference = new LockstepSuite(new FullPlugin().Strategies.Single(), new HardwareStrategy()).RunToEnd(KnownDifferences.KvmEmulator);
        Assert.StartsWith("Rsp 0x2FFC8, KVM 0x30000, RIP 0x4C5B, KVM 0x10014, memory at 0x3800: 0D, KVM FF", difference, StringComparison.Ordinal);
    }

    /// <summary>The trap flag's trap is lost behind a PAUSE, so a step takes the next instruction with it: not KVM's doing.</summary>
    [Fact]
    public unsafe void A_step_over_PAUSE_goes_too_far_there()
    {
        using var machine = new Sdk.Testing.Conformance.ConformanceMachine(new BareQemu());
        ulong Step(params byte[] code)
        {
            machine.EnterLongMode(_ => { });
            machine.Write(Sdk.Testing.Conformance.ConformanceMachine.CodeAddress, code);
            Assert.Equal(Sdk.Cpu.VcpuExit.SingleStep, machine.Vcpu.SingleStep());
            return machine.State->Rip - Sdk.Testing.Conformance.ConformanceMachine.CodeAddress;
        }

        // NOP of one byte and of three in place of PAUSE; then that.
        Assert.Equal(1ul, Step(0x90, 0x0F, 0x1F, 0x00, 0xF4));
        Assert.Equal(2ul + 3, Step(0xF3, 0x90, 0x0F, 0x1F, 0x00, 0xF4));
    }

    /// <summary>XSETBV's intercept does not fire there, although the guest is allowed to do it and does: so KVM, which has XCR0 from that intercept, cannot know. One of the same word of the control block does fire.</summary>
    [Fact]
    public unsafe void XSETBV_does_not_leave_a_guest_there()
    {
        using var machine = new ConformanceMachine(new BareQemu());
        machine.EnterLongMode(c => c.Bytes(0x0F, 0x09).Hlt());
        Assert.Equal(Sdk.Cpu.VcpuExit.Failed, machine.Run());
        KnownDifferences.MissedIntercept.Prepare(machine);
        Assert.Equal(Sdk.Cpu.VcpuExit.Halt, machine.Run());
        Assert.Equal(Xcr0.X87 | Xcr0.Sse | Xcr0.Avx, machine.State->Xcr0);
    }

    /// <summary>Stepped as KVM does it: of instructions that differ in one form only the other forms agree. (Arithmetic of x87 and SSE is not looked at here: QEMU's has other flags than the host's.)</summary>
    [Theory]
    [InlineData(Mnemonic.Adox, Mnemonic.Adcx)]
    [InlineData(Mnemonic.Shld, Mnemonic.Shrd, Mnemonic.Nop, Mnemonic.Reservednop)]
    [InlineData(Mnemonic.Vgatherdpd, Mnemonic.Vgatherdps, Mnemonic.Vgatherqpd, Mnemonic.Vgatherqps, Mnemonic.Vpgatherdd, Mnemonic.Vpgatherdq, Mnemonic.Vpgatherqd, Mnemonic.Vpgatherqq)]
    public void Forms_that_are_not_left_out_agree_there(params Mnemonic[] mnemonics)
    {
        LockstepResult result = new LockstepSuite(new FullPlugin().Strategies.Single(), new BareQemu()).RunRandom(1, 8, TimeSpan.FromMinutes(1), mnemonics);
        Assert.True(result.Differences.Count == 0, string.Join('\n', result.Differences));
        Assert.Equal(8, result.Cases);
    }
}
