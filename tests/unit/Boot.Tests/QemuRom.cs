using System.Diagnostics;
using System.Globalization;
using System.Text;
using Iced.Intel;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Memory;
using VirtPS.X86;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Boot.Tests;

/// <summary>
/// Runs a guest under QEMU exactly as our loader has put it into memory, without QEMU's firmware or loaders: the memory is loaded as it is, and a small ROM of our own brings the
/// processor into the state that the loader has set. So what a loader does is judged by a PC that is not ours. The ROM also puts the chipset's ACPI block where our tables say it is.
/// </summary>
internal static unsafe class QemuRom
{
    private const uint RomBase = 0xE0000, Trampoline = 0xFF000, ResetVector = 0xFFFF0;
    private const int Block = 1 << 16;

    public static string? Program => Tools.Find("qemu-system-x86_64");

    /// <summary>Starts the guest; returns its console output when it has ended, or when <paramref name="until"/> appears in it, or after the time is over.</summary>
    public static string Run(TestMachine machine, string? until, TimeSpan timeout, int processors = 1)
    {
        string folder = Directory.CreateTempSubdirectory("virtps-rom-").FullName;
        try
        {
            File.WriteAllBytes(Path.Combine(folder, "rom.bin"), Rom(machine));
            List<string> arguments = ["-accel", "tcg", "-M", "pc", "-m", (machine.Layout.TotalRam >> 20).ToString(CultureInfo.InvariantCulture), "-display", "none", "-nodefaults",
                "-smp", processors.ToString(CultureInfo.InvariantCulture), "-serial", "stdio", "-no-reboot", "-bios", Path.Combine(folder, "rom.bin")];
            foreach (string file in WriteRam(machine, folder))
                arguments.AddRange(["-device", file]);
            return Run(arguments, until, timeout);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Run(List<string> arguments, string? until, TimeSpan timeout)
    {
        using Process process = Process.Start(new ProcessStartInfo(Program!, arguments)
        {
            RedirectStandardOutput = true,
            RedirectStandardInput = true,
        })!;
        var output = new StringBuilder();
        Task reader = Task.Run(() =>
        {
            char[] buffer = new char[4096];
            int n;
            while ((n = process.StandardOutput.Read(buffer)) > 0)
            {
                output.Append(buffer, 0, n);
                if (until is not null && output.ToString().Contains(until, StringComparison.Ordinal))
                    break;
            }
        });
        reader.Wait(timeout);
        if (!process.HasExited)
            process.Kill();
        process.WaitForExit();
        reader.Wait(TimeSpan.FromSeconds(5));
        return output.ToString();
    }

    /// <summary>All memory that is not zero, except the ROM's, as files for QEMU's generic loader.</summary>
    private static IEnumerable<string> WriteRam(TestMachine machine, string folder)
    {
        List<string> devices = [];
        foreach (MemorySlot slot in machine.Memory.Slots)
        {
            ulong start = 0, length = 0;
            for (ulong at = 0; at <= slot.Size; at += Block)
            {
                bool used = at < slot.Size && (slot.Gpa + at) is < RomBase or >= MemoryLayout.OneMegabyte
                    && new ReadOnlySpan<byte>(slot.Address + at, Block).ContainsAnyExcept((byte)0);
                if (used)
                {
                    start = length == 0 ? at : start;
                    length += Block;
                }
                else if (length > 0)
                {
                    string file = Path.Combine(folder, $"{slot.Gpa + start:X}.bin");
                    using (FileStream stream = File.Create(file))
                        stream.Write(new ReadOnlySpan<byte>(slot.Address + start, (int)length));
                    devices.Add($"loader,file={file},addr=0x{slot.Gpa + start:X},force-raw=on");
                    length = 0;
                }
            }
        }

        return devices;
    }

    private static byte[] Rom(TestMachine machine)
    {
        byte[] rom = machine.Bytes(RomBase, 0x20000);
        Assert.DoesNotContain(rom[(int)(Trampoline - RomBase)..0x1FFE0], b => b != 0);
        uint tables = Trampoline, code16 = Trampoline + 0x80, code32 = Trampoline + 0x200;
        void Put(uint address, byte[] bytes) => bytes.CopyTo(rom, (int)(address - RomBase));
        Put(tables, [.. BitConverter.GetBytes(0ul), .. BitConverter.GetBytes(0x00CF9B000000FFFFul), .. BitConverter.GetBytes(0x00CF93000000FFFFul)]);
        Put(tables + 0x20, [23, 0, .. BitConverter.GetBytes(tables)]);
        Put(tables + 0x28, [(byte)machine.State->Gdtr.Limit, (byte)(machine.State->Gdtr.Limit >> 8), .. BitConverter.GetBytes((uint)machine.State->Gdtr.Base)]);
        Put(code16, Assemble(16, code16 - 0xF0000, a => EmitReal(a, machine.State, tables - 0xF0000, code32)));
        Put(code32, Assemble(32, code32, a => EmitProtected(a, machine.State, tables + 0x28)));
        Put(ResetVector, [0xEA, (byte)(code16 & 0xFF), (byte)(code16 >> 8), 0x00, 0xF0]);
        return rom;
    }

    private static byte[] Assemble(int bitness, uint at, Action<Assembler> emit)
    {
        var assembler = new Assembler(bitness);
        emit(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), at);
        return stream.ToArray();
    }

    private static void EmitReal(Assembler a, VcpuState* s, uint tables, uint code32)
    {
        a.cli();
        // PIIX4 function 3: PMBASE and PMREGMISC, as PC firmware sets them.
        foreach ((uint register, uint value) in (ReadOnlySpan<(uint, uint)>)[(0x8000_0B40, 0x601), (0x8000_0B80, 1)])
        {
            a.mov(dx, 0xCF8);
            a.mov(eax, register);
            a.@out(dx, eax);
            a.mov(dx, 0xCFC);
            a.mov(eax, value);
            a.@out(dx, eax);
        }

        if (s->Mode == CpuMode.Real)
        {
            EmitRegisters(a, s);
            a.jmp(s->CS.Selector, (ushort)s->Rip);
            return;
        }

        a.lgdt(__.cs[(int)(tables + 0x20)]);
        a.mov(eax, cr0);
        a.or(al, 1);
        a.mov(cr0, eax);
        a.AddInstruction(Instruction.CreateBranch(Code.Jmp_ptr1632, 8, code32));
    }

    private static void EmitProtected(Assembler a, VcpuState* s, uint gdtPointer)
    {
        a.mov(eax, 0x10);
        a.mov(ds, eax);
        a.lgdt(__[gdtPointer]);
        if (s->Mode == CpuMode.Long)
        {
            a.mov(eax, (uint)s->Cr4);
            a.mov(cr4, eax);
            a.mov(eax, (uint)s->Cr3);
            a.mov(cr3, eax);
            a.mov(ecx, (uint)Msr.Efer);
            a.mov(eax, (uint)(s->Efer & ~Efer.LMA));
            a.xor(edx, edx);
            a.wrmsr();
        }

        a.mov(eax, (uint)s->Cr0);
        a.mov(cr0, eax);
        a.mov(eax, s->DS.Selector);
        foreach (AssemblerRegisterSegment segment in (ReadOnlySpan<AssemblerRegisterSegment>)[ds, es, ss, fs, gs])
            a.mov(segment, eax);
        EmitRegisters(a, s);
        a.jmp(s->CS.Selector, (uint)s->Rip);
    }

    private static void EmitRegisters(Assembler a, VcpuState* s)
    {
        ReadOnlySpan<AssemblerRegister32> registers = [eax, ecx, edx, ebx, esp, ebp, esi, edi];
        for (int i = 0; i < registers.Length; i++)
            a.mov(registers[i], (uint)s->Gpr[i]);
    }
}
