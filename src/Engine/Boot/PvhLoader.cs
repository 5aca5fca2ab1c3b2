using System.Buffers.Binary;
using System.Text;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Engine.Boot;

/// <summary>
/// ELF with a PVH entry note: Xen's x86/HVM direct boot ABI (public/arch-x86/hvm/start_info.h). When asked for by kind it also takes a bzImage and starts the ELF
/// kernel inside it.
/// </summary>
public sealed unsafe class PvhLoader : IGuestLoader
{
    private const uint EntryNote = 18; // XEN_ELFNOTE_PHYS32_ENTRY
    private const uint StartInfoMagic = 0x336EC578;
    private const int StartInfoSize = 56, ModuleSize = 32, MapEntrySize = 24;

    public BootKind Kind => BootKind.Pvh;

    public bool Recognises(GuestImage image) => ElfImage.Recognises(image.ReadHeader(4)) && EntryOf(ElfImage.Read(image)) is not null;

    public GuestEntry Load(BootContext context)
    {
        GuestImage image = context.Kernel;
        if (!LinuxHeader.Recognises(image.ReadHeader(LinuxHeader.RecognisedBy)))
            return Load(context, image, "ELF with PVH entry");
        using GuestImage kernel = KernelPayload.Extract(image);
        return Load(context, kernel, "Linux kernel with PVH entry");
    }

    private static GuestEntry Load(BootContext context, GuestImage image, string format)
    {
        ElfImage elf = ElfImage.Read(image);
        uint entry = EntryOf(elf) ?? throw ImageFault.Of(image.Name, "has no PVH entry note (owner Xen, type 18)",
            "Build the kernel with PVH support (Linux: CONFIG_PVH), or start its bzImage with -BootKind Linux.");
        ulong end = elf.LoadInto(context);
        ulong startInfo = PutStartInfo(context, image, end);
        CpuEntry.EnterProtected(context, entry);
        context.State->Gpr[(int)Gpr.Rbx] = startInfo;
        return new GuestEntry(format, entry, CpuMode.Protected32);
    }

    private static uint? EntryOf(ElfImage elf) => elf.FindNote("Xen"u8, EntryNote) switch
    {
        { Length: >= 4 } note => BinaryPrimitives.ReadUInt32LittleEndian(note),
        _ => null,
    };

    /// <summary>start_info with its module list, memory map and command line, in one piece.</summary>
    private static ulong PutStartInfo(BootContext context, GuestImage image, ulong kernelEnd)
    {
        byte[] commandLine = Encoding.UTF8.GetBytes(context.Boot.CommandLine + '\0');
        IReadOnlyList<E820Entry> map = context.Layout.E820;
        int mapAt = StartInfoSize + ModuleSize, textAt = mapAt + (map.Count * MapEntrySize);
        byte[] bytes = new byte[textAt + commandLine.Length];
        ulong address = CpuEntry.TakeLow(context, (ulong)bytes.Length, 16, "the PVH start info");
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, StartInfoMagic);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(4), 1);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(24), address + (ulong)textAt);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(32), context.Rsdp);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(40), address + (ulong)mapAt);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(48), map.Count);
        if (PutInitrd(context, image, kernelEnd) is { } initrd)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(12), 1);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(16), address + StartInfoSize);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(StartInfoSize), initrd.Start);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(StartInfoSize + 8), initrd.Size);
        }

        for (int i = 0; i < map.Count; i++)
        {
            Span<byte> entry = bytes.AsSpan(mapAt + (i * MapEntrySize));
            BinaryPrimitives.WriteUInt64LittleEndian(entry, map[i].Start);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], map[i].Size);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], (uint)map[i].Type);
        }

        commandLine.CopyTo(bytes, textAt);
        context.Write(address, bytes);
        return address;
    }

    private static MemoryRange? PutInitrd(BootContext context, GuestImage image, ulong kernelEnd)
    {
        if (context.Boot.Initrd is not { } path)
            return null;
        using GuestImage initrd = GuestImage.Open(path);
        ulong address = context.Plan.TakeHighest(initrd.Length, 4096, MemoryLayout.OneMegabyte, MemoryLayout.FourGigabytes, "the initrd")
            ?? throw InitrdFault.DoesNotFit(initrd, image.Name, kernelEnd, PcLayout.PciMmioStart);
        initrd.CopyTo(context.Memory, 0, address, initrd.Length, "initrd");
        return new MemoryRange(address, initrd.Length);
    }
}
