using System.Runtime.InteropServices;
using VirtPS.Client;
using VirtPS.Client.Protocol;
using VirtPS.Engine;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Hosting;
using VirtPS.Worker.Machines;

namespace VirtPS.Worker.Inspection;

/// <summary>Turns what a machine can be asked for into the objects that users get. Thread-safe.</summary>
internal sealed class MachineInspector(VmRun run)
{
    private const int MaxRead = 1 << 20;
    private const int MaxInstructions = 4096;
    private const int MaxSteps = 1_000_000;

    public RingState[] GetRingStates(IWorkerMachine machine)
    {
        RequireGuest(machine, "be asked for its rings");
        return [.. machine.CaptureRings().Select(v => v.State with
        {
            VMName = run.Configuration.Name,
            Instruction = Disassembler.First(v.Code.Span, v.LinearRip, v.Bitness),
        })];
    }

    /// <summary>Also after the machine's end, as long as the worker is there.</summary>
    public RingMeasurement[] MeasureRings(IWorkerMachine machine) => [.. machine.MeasureRings().Select(m => m with { VMName = run.Configuration.Name })];

    public WireRingSteps StepRings(IWorkerMachine machine, int vcpu, int count, bool includeSameRing, double seconds)
    {
        RequireGuest(machine, "be stepped");
        RequireVcpu(machine, vcpu);
        if (count is < 1 or > MaxSteps)
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"{count} instructions cannot be stepped at once.", $"Give 1 to {MaxSteps}.", count);
        RingSteps steps = machine.StepRings(vcpu, count, includeSameRing, TimeSpan.FromSeconds(seconds));
        return new WireRingSteps(MemoryMarshal.AsBytes(steps.Events.AsSpan()).ToArray(), steps.Instructions);
    }

    public VirtRegisterSet GetRegisters(IWorkerMachine machine, int vcpu)
    {
        RequireGuest(machine, "be asked for its registers");
        RequireVcpu(machine, vcpu);
        return RegisterList.Create(machine.CaptureRegisters(vcpu), run.Id, run.Configuration.Name);
    }

    public byte[] ReadMemory(IWorkerMachine machine, ulong address, int length, GuestAddressSpace space, int vcpu)
    {
        RequireGuest(machine, "be asked for its memory");
        if (length is < 0 or > MaxRead)
            throw new VirtException(ErrorIds.GuestAddressInvalid, $"{length} bytes cannot be read at once; at most {MaxRead} can.", "Read in pieces.", length);
        byte[] bytes = new byte[length];
        if (space == GuestAddressSpace.Linear)
        {
            RequireVcpu(machine, vcpu);
            int read = machine.ReadLinear(vcpu, address, bytes);
            return read == length
                ? bytes
                : throw new VirtException(ErrorIds.GuestAddressInvalid, $"Linear address 0x{address + (ulong)read:X} is not mapped on vCPU {vcpu}.", "Give an address that the guest has mapped now.", address);
        }

        return machine.TryReadPhysical(address, bytes)
            ? bytes
            : throw new VirtException(ErrorIds.GuestAddressInvalid, $"There is no memory at guest-physical address 0x{FirstMissing(machine, address, length):X}.", $"RAM is {machine.MemoryAssigned} bytes from address 0, with a hole for devices below 4 GiB.", address);
    }

    public VirtDisassemblyLine[] Disassemble(IWorkerMachine machine, ulong? address, int count, int vcpu)
    {
        RequireGuest(machine, "be disassembled");
        RequireVcpu(machine, vcpu);
        if (count is < 1 or > MaxInstructions)
            throw new VirtException(ErrorIds.ConfigurationInvalid, $"{count} instructions cannot be disassembled at once.", $"Give 1 to {MaxInstructions}.", count);
        CapturedVcpu now = machine.CaptureRings()[vcpu];
        ulong start = address ?? now.LinearRip;
        byte[] code = new byte[count * Disassembler.MaxInstructionLength];
        int read = machine.ReadLinear(vcpu, start, code);
        if (read == 0)
            throw new VirtException(ErrorIds.GuestAddressInvalid, $"Linear address 0x{start:X} is not mapped on vCPU {vcpu}.", "Give an address that the guest has mapped now.", start);
        return [.. Disassembler.Decode(code.AsMemory(0, read), start, now.Bitness, count).Select(line => new VirtDisassemblyLine
        {
            VMId = run.Id,
            VMName = run.Configuration.Name,
            Vcpu = vcpu,
            Address = line.Address,
            Bytes = Convert.ToHexString(line.Bytes.Span),
            Instruction = line.Text,
            IsCurrent = line.Address == now.LinearRip,
        })];
    }

    private void RequireGuest(IWorkerMachine machine, string what)
    {
        if (machine.State is not (VmState.Running or VmState.Paused))
            throw new VirtException(ErrorIds.InvalidVMState, $"VM '{run.Configuration.Name}' is {machine.State}: it cannot {what}.", "Start it first (Start-VirtVM).", run.Configuration.Name);
    }

    private void RequireVcpu(IWorkerMachine machine, int vcpu)
    {
        if (vcpu < 0 || vcpu >= machine.VcpuCount)
            throw new VirtException(ErrorIds.VcpuNotFound, $"VM '{run.Configuration.Name}' has no vCPU {vcpu}; it has 0 to {machine.VcpuCount - 1}.", "Give one of these.", vcpu);
    }

    /// <summary>Memory comes in pages.</summary>
    private static ulong FirstMissing(IWorkerMachine machine, ulong address, int length)
    {
        Span<byte> one = stackalloc byte[1];
        for (ulong at = address; at - address < (ulong)length; at = (at | 0xFFF) + 1)
        {
            if (!machine.TryReadPhysical(at, one))
                return at;
        }

        return address;
    }
}
