using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using VirtPS.Sdk;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Interrupts;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;
using VirtPS.Sdk.Rings;
using VirtPS.X86;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// QEMU's emulated processor by itself, with no KVM in between: each <see cref="IVcpu.Run"/> boots a QEMU whose firmware does no more than VMRUN of the given state, and takes over registers and
/// memory when that guest has halted. So what a test finds under the emulated kvm-amd can be laid at QEMU's door, or not. Port and MMIO accesses go nowhere; an intercept of
/// WBINVD or XSETBV ends the run with <see cref="VcpuExit.Failed"/>.
/// </summary>
internal sealed class BareQemu : IStrategy
{
    public const string Program = "/usr/bin/qemu-system-x86_64";

    public StrategyInfo Info { get; } = new()
    {
        Name = "BareQemu",
        Description = "QEMU's TCG.",
        RingFidelity = RingFidelity.AtExit,
        Preference = 0,
        RingModel = [],
    };

    public IGuestInterface GuestInterface => throw new NotSupportedException();

    public HostSupport Probe() => new(File.Exists(Program), $"{Program}, with no KVM.");

    public ICpuBackend CreateBackend(IReadOnlyDictionary<string, string> options, ILog log) => new Backend();

    public CpuidPolicy CreateCpuidPolicy(int vcpuCount, IReadOnlyDictionary<string, string> options) => new(new Dictionary<(uint, uint), CpuidResult>());

    private sealed class Backend : ICpuBackend
    {
        public string Tier => "TCG";

        public BackendCapabilities Capabilities { get; } = new() { MaxVcpus = 1, RingFidelity = RingFidelity.AtExit, Execution = ExecutionKind.Translated };

        public IPartition CreatePartition(PartitionOptions options) => new Partition(options);

        public void Dispose()
        {
        }
    }

    private sealed class Partition(PartitionOptions options) : IPartition
    {
        public PartitionOptions Options => options;

        public MemorySlot? Ram { get; private set; }

        public IPartitionInterruptController? InterruptController => null;

        public void MapMemory(MemorySlot slot) => Ram = Ram is null ? slot : throw new NotSupportedException("One slot of memory.");

        public void UnmapMemory(MemorySlot slot) => Ram = null;

        public void RestartDirtyTracking(MemorySlot slot)
        {
        }

        public void CollectDirty(MemorySlot slot)
        {
        }

        public void InvalidateCode(MemorySlot slot, ulong offset, ulong length)
        {
        }

        public IVcpu CreateVcpu(int index, IVcpuHost host) => new Vcpu(this);

        public void Dispose()
        {
        }
    }

    private sealed unsafe class Vcpu : IVcpu
    {
        // The firmware shows through there, and what is loaded there would overwrite it.
        private const int FirmwareAlias = 0xF0000, FirmwareAliasEnd = 0x100000;

        private static readonly TimeSpan s_limit = TimeSpan.FromSeconds(10);

        private readonly Partition _partition;

        public Vcpu(Partition partition)
        {
            _partition = partition;
            // SAFETY: lives until Dispose; 64-byte aligned as the XSAVE area in it must be.
            State = (VcpuState*)System.Runtime.InteropServices.NativeMemory.AlignedAlloc((nuint)sizeof(VcpuState), 64);
            Counters = (RingCounters*)System.Runtime.InteropServices.NativeMemory.AllocZeroed((nuint)sizeof(RingCounters));
            VcpuState.Reset(State, init: false, bootstrap: true);
        }

        public int Index => 0;

        public VcpuState* State { get; }

        public RingCounters* Counters { get; }

        public RingEventBuffer? Trace { get; set; }

        public VcpuExit Run() => Boot(step: false);

        /// <summary>One instruction, by the trap flag with its #DB intercepted: no more than KVM does for a debugger. One that faults ends where its handler halts.</summary>
        public VcpuExit SingleStep() => Boot(step: true);

        private VcpuExit Boot(bool step)
        {
            string folder = Directory.CreateTempSubdirectory("virtps-bare-").FullName;
            try
            {
                MemorySlot slot = _partition.Ram!;
                var memory = new ReadOnlySpan<byte>(slot.Address, (int)slot.Size);
                File.WriteAllBytes(Path.Combine(folder, "low"), memory[..FirmwareAlias]);
                File.WriteAllBytes(Path.Combine(folder, "high"), memory[FirmwareAliasEnd..]);
                File.WriteAllBytes(Path.Combine(folder, "firmware"), BareQemuFirmware.Build(State));
                File.WriteAllBytes(Path.Combine(folder, "vmcb"), BareQemuVmcb.Build(State, step));
                return RunQemu(folder, slot);
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }

        private VcpuExit RunQemu(string folder, MemorySlot slot)
        {
            using var process = Process.Start(new ProcessStartInfo(Program,
            [
                "-accel", "tcg", "-cpu", "EPYC,+svm,+npt", "-M", "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off", "-m", "16", "-nodefaults", "-no-user-config", "-display", "none",
                "-no-reboot", "-qmp", "stdio", "-bios", $"{folder}/firmware",
                "-device", $"loader,file={folder}/low,addr=0,force-raw=on", "-device", $"loader,file={folder}/high,addr={FirmwareAliasEnd},force-raw=on",
                "-device", $"loader,file={folder}/vmcb,addr={BareQemuVmcb.Address},force-raw=on",
            ]) { RedirectStandardInput = true, RedirectStandardOutput = true, RedirectStandardError = true })!;
            process.ErrorDataReceived += (_, _) => { };
            process.BeginErrorReadLine();
            try
            {
                Ask(process, "qmp_capabilities", "{}");
                TakeRegisters(WaitForEnd(process));
                Monitor(process, $"pmemsave 0 0x{slot.Size:x} \\\"{folder}/after\\\"");
                byte[] memory = File.ReadAllBytes($"{folder}/after");
                for (int i = 0; i < memory.Length; i++)
                {
                    if (i is < FirmwareAlias or >= FirmwareAliasEnd)
                        slot.Address[i] = memory[i];
                }

                Monitor(process, $"pmemsave 0x{BareQemuVmcb.Address:x} 0x{BareQemuVmcb.Size:x} \\\"{folder}/vmcb\\\"");
                VcpuExit exit = BareQemuVmcb.Take(File.ReadAllBytes($"{folder}/vmcb"), State);
                State->MpState = exit switch { VcpuExit.Halt => MpState.Halted, VcpuExit.SingleStep => MpState.Runnable, _ => MpState.Shutdown };
                return exit;
            }
            finally
            {
                process.Kill();
                process.WaitForExit();
            }
        }

        /// <summary>The registers when the firmware has halted behind VMRUN.</summary>
        private static string WaitForEnd(Process process)
        {
            string registers = "";
            for (var watch = Stopwatch.StartNew(); watch.Elapsed < s_limit; Thread.Sleep(5))
            {
                registers = Monitor(process, "info registers");
                if (registers.Contains("HLT=1", StringComparison.Ordinal))
                    return registers;
            }

            throw new TimeoutException($"QEMU's guest did not halt within {s_limit.TotalSeconds} s: {registers}");
        }

        private static string Monitor(Process process, string command) => Ask(process, "human-monitor-command", $$"""{"command-line":"{{command}}"}""").GetString()!;

        /// <summary>Sends a command and gives what is returned; events between are passed over.</summary>
        private static JsonElement Ask(Process process, string command, string arguments)
        {
            process.StandardInput.WriteLine($$"""{"execute":"{{command}}","arguments":{{arguments}}}""");
            process.StandardInput.Flush();
            while (process.StandardOutput.ReadLine() is { } line)
            {
                JsonElement answer = JsonDocument.Parse(line).RootElement;
                if (answer.TryGetProperty("return", out JsonElement result))
                    return result;
                if (answer.TryGetProperty("error", out JsonElement error))
                    throw new InvalidOperationException($"QEMU on {command}: {error}");
            }

            throw new InvalidOperationException("QEMU has ended.");
        }

        private void TakeRegisters(string text)
        {
            VcpuState* s = State;
            string[] names = ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"];
            for (int i = 0; i < 16; i++)
                s->Gpr[i] = Value(text, names[i]);
            (s->Dr0, s->Dr1, s->Dr2, s->Dr3) = (Value(text, "DR0"), Value(text, "DR1"), Value(text, "DR2"), Value(text, "DR3"));
            s->Pending = default;
            s->InterruptShadow = InterruptShadow.None;
        }

        private static ulong Value(string text, string name) => ulong.Parse(Regex.Match(text, $@"\b{name}=([0-9a-f]+)").Groups[1].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

        public void Kick()
        {
        }

        public void SynchronizeState()
        {
        }

        public void CommitState()
        {
        }

        public void InjectInterrupt(byte vector) => throw new NotSupportedException();

        public bool TryTranslate(ulong linear, out ulong gpa) => throw new NotSupportedException();

        public void Dispose()
        {
            System.Runtime.InteropServices.NativeMemory.AlignedFree(State);
            System.Runtime.InteropServices.NativeMemory.Free(Counters);
        }
    }
}
