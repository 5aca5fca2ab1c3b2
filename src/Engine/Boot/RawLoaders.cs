using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Engine.Boot;

/// <summary>
/// A boot sector as a BIOS would start it: at 0000:7C00 in real mode, DL = 0x80, interrupts off. All of the file is loaded, so that later stages in the same
/// file are in memory; there are no BIOS services to fetch them with.
/// </summary>
public sealed unsafe class BootSectorLoader : IGuestLoader
{
    private const ushort LoadAddress = 0x7C00;
    private const byte FirstHardDisk = 0x80;

    public BootKind Kind => BootKind.BootSector;

    public bool Recognises(GuestImage image) => false;

    public GuestEntry Load(BootContext context)
    {
        GuestImage image = context.Kernel;
        Span<byte> signature = stackalloc byte[2];
        image.Read(510, signature, "boot signature");
        if (signature is not [0x55, 0xAA])
        {
            throw ImageFault.At(image.Name, 510, "boot signature", $"is {signature[0]:X2} {signature[1]:X2}, not 55 AA",
                "Check that this is a boot sector; code without signature starts with -BootKind Flat.");
        }

        context.Plan.Take(LoadAddress, image.Length, "the boot sector and what follows it", image.Name);
        image.CopyTo(context.Memory, 0, LoadAddress, image.Length, "boot sector");
        CpuEntry.EnterReal(context.State, 0, LoadAddress, LoadAddress);
        context.State->Gpr[(int)Gpr.Rdx] = FirstHardDisk;
        return new GuestEntry("boot sector", LoadAddress, CpuMode.Real);
    }
}

/// <summary>
/// A flat binary at <see cref="BootConfiguration.LoadAddress"/>, started at its first byte in <see cref="BootConfiguration.EntryMode"/>. Real mode: CS:IP is
/// address/16 : address mod 16, or 0 : address below 64 KiB, and the stack grows down from there when it is below 64 KiB, else from 0:7C00. Protected and long
/// mode: flat segments, a stack of 16 KiB; long mode with the first 4 GiB mapped to themselves.
/// </summary>
public sealed unsafe class FlatLoader : IGuestLoader
{
    private const ulong StackSize = 16384;

    public BootKind Kind => BootKind.Flat;

    public bool Recognises(GuestImage image) => false;

    public GuestEntry Load(BootContext context)
    {
        GuestImage image = context.Kernel;
        ulong address = context.Boot.LoadAddress;
        ulong reach = context.Boot.EntryMode == FlatEntryMode.Real16 ? MemoryLayout.OneMegabyte : MemoryLayout.FourGigabytes;
        if (address >= reach)
        {
            throw ImageFault.Of(image.Name, $"the load address 0x{address:X} cannot be reached in mode {context.Boot.EntryMode}",
                $"Choose an address below 0x{reach:X}, or another entry mode.");
        }

        context.Plan.Take(address, image.Length, "the flat binary", image.Name);
        image.CopyTo(context.Memory, 0, address, image.Length, "flat binary");
        switch (context.Boot.EntryMode)
        {
            case FlatEntryMode.Real16:
                bool inFirstSegment = address < 0x10000;
                CpuEntry.EnterReal(context.State, (ushort)(inFirstSegment ? 0 : address >> 4), (ushort)(inFirstSegment ? address : address & 0xF),
                    (ushort)(inFirstSegment && address >= 0x1000 ? address & ~1ul : 0x7C00));
                return new GuestEntry("flat binary", address, CpuMode.Real);
            case FlatEntryMode.Protected32:
                CpuEntry.EnterProtected(context, (uint)address);
                break;
            case FlatEntryMode.Long64:
                CpuEntry.EnterLong(context, address);
                break;
            default:
                throw ImageFault.Of(image.Name, $"there is no entry mode {context.Boot.EntryMode}", "Use Real16, Protected32 or Long64.");
        }

        context.State->Gpr[(int)Gpr.Rsp] = CpuEntry.TakeLow(context, StackSize, 16, "the stack") + StackSize;
        return new GuestEntry("flat binary", address, context.Boot.EntryMode == FlatEntryMode.Long64 ? CpuMode.Long : CpuMode.Protected32);
    }
}
