using System.Buffers.Binary;
using System.Text;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Engine.Boot;

/// <summary>Multiboot 1 (Multiboot Specification 0.6.96): ELF or address-field kernels, modules, memory map. An initrd is passed as the first module.</summary>
public sealed unsafe class MultibootLoader : IGuestLoader
{
    private const uint LoaderMagic = 0x2BADB002;
    private const int InfoSize = 120, ModuleSize = 16, MapEntrySize = 24;

    // Bits of the information structure's flags (§3.3).
    private const uint HasMemory = 1, HasCommandLine = 4, HasModules = 8, HasMap = 64, HasLoaderName = 512;

    public BootKind Kind => BootKind.Multiboot;

    public bool Recognises(GuestImage image) => MultibootHeader.Find(image) is not null;

    public GuestEntry Load(BootContext context)
    {
        GuestImage image = context.Kernel;
        MultibootHeader header = MultibootHeader.Find(image) ?? throw ImageFault.Of(image.Name,
            "has no Multiboot header (magic 1BADB002 with a right checksum) in its first 8192 bytes", "Check that the header is linked first, and 4-byte aligned.");
        header.Check(image);
        (ulong entry, ulong end) = header.HasAddresses ? LoadByAddresses(context, header) : LoadElf(context);
        if (entry >= MemoryLayout.FourGigabytes)
            throw ImageFault.Of(image.Name, $"its entry point 0x{entry:X} is above 4 GiB, where 32-bit code cannot be", "Link its entry code below 4 GiB.");
        List<(MemoryRange Range, string Text)> modules = LoadModules(context, end);
        ulong info = PutInfo(context, modules);
        CpuEntry.EnterProtected(context, (uint)entry);
        context.State->Gpr[(int)Gpr.Rax] = LoaderMagic;
        context.State->Gpr[(int)Gpr.Rbx] = info;
        return new GuestEntry("Multiboot 1", entry, CpuMode.Protected32);
    }

    private static (ulong Entry, ulong End) LoadElf(BootContext context)
    {
        ElfImage elf = ElfImage.Read(context.Kernel);
        return (elf.ToPhysical(elf.Entry), elf.LoadInto(context));
    }

    /// <summary>The address fields of the header (§3.1.3), which a.out and flat kernels use.</summary>
    private static (ulong Entry, ulong End) LoadByAddresses(BootContext context, MultibootHeader header)
    {
        GuestImage image = context.Kernel;
        if (header.LoadAddress > header.HeaderAddress || header.HeaderAddress - header.LoadAddress > header.Offset)
            throw ImageFault.At(image.Name, header.Offset + 12, "load_addr", $"0x{header.LoadAddress:X} does not agree with header_addr 0x{header.HeaderAddress:X}", "Correct the header's address fields.");
        ulong from = header.Offset - (header.HeaderAddress - header.LoadAddress);
        if (header.LoadEnd != 0 && header.LoadEnd <= header.LoadAddress)
            throw ImageFault.At(image.Name, header.Offset + 20, "load_end_addr", $"0x{header.LoadEnd:X} is below load_addr", "Correct the header's address fields.");
        ulong size = header.LoadEnd == 0 ? image.Length - from : header.LoadEnd - header.LoadAddress;
        ulong end = Math.Max(header.LoadAddress + size, header.BssEnd);
        context.Plan.Take(header.LoadAddress, end - header.LoadAddress, "the kernel", image.Name);
        image.CopyTo(context.Memory, from, header.LoadAddress, size, "kernel (load_addr to load_end_addr)");
        context.Clear(header.LoadAddress + size, end - header.LoadAddress - size);
        return (header.Entry, end);
    }

    private static List<(MemoryRange Range, string Text)> LoadModules(BootContext context, ulong kernelEnd)
    {
        List<(MemoryRange, string)> loaded = [];
        IEnumerable<string> specs = context.Boot.Initrd is { } initrd ? context.Boot.Modules.Prepend(initrd) : context.Boot.Modules;
        foreach (string spec in specs)
        {
            using GuestImage module = OpenModule(spec);
            ulong address = context.Plan.TakeLowest(module.Length, 4096, Math.Max(kernelEnd, MemoryLayout.OneMegabyte), MemoryLayout.FourGigabytes, $"the module '{module.Name}'")
                ?? throw InitrdFault.DoesNotFit(module, context.Kernel.Name, loaded.Count == 0 ? kernelEnd : loaded.Max(m => m.Item1.End), MemoryLayout.FourGigabytes);
            module.CopyTo(context.Memory, 0, address, module.Length, "module");
            loaded.Add((new MemoryRange(address, module.Length), spec));
        }

        return loaded;
    }

    /// <summary>A module is a path, then optionally a space and more text; a path that itself has spaces is tried whole first.</summary>
    private static GuestImage OpenModule(string spec)
    {
        int space = spec.IndexOf(' ', StringComparison.Ordinal);
        return GuestImage.Open(space < 0 || File.Exists(spec) ? spec : spec[..space]);
    }

    private static ulong PutInfo(BootContext context, List<(MemoryRange Range, string Text)> modules)
    {
        IReadOnlyList<E820Entry> map = context.Layout.E820;
        int modulesAt = InfoSize, mapAt = modulesAt + (modules.Count * ModuleSize), textAt = mapAt + (map.Count * MapEntrySize);
        List<byte> text = [];
        int AddText(string s)
        {
            int at = textAt + text.Count;
            text.AddRange(Encoding.UTF8.GetBytes(s + '\0'));
            return at;
        }

        int loaderName = AddText("VirtPS"), commandLine = AddText(context.Boot.CommandLine);
        int[] moduleTexts = [.. modules.Select(m => AddText(m.Text))];
        byte[] bytes = new byte[textAt + text.Count];
        text.CopyTo(bytes, textAt);
        uint at = (uint)CpuEntry.TakeLow(context, (ulong)bytes.Length, 16, "the Multiboot information");
        void U32(int offset, ulong value) => BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(offset), (uint)value);
        U32(0, HasMemory | HasCommandLine | HasMap | HasLoaderName | (modules.Count > 0 ? HasModules : 0));
        U32(4, MemoryLayout.EbdaStart >> 10);
        U32(8, (context.Layout.LowRamEnd - MemoryLayout.OneMegabyte) >> 10);
        U32(16, at + (uint)commandLine);
        U32(20, (uint)modules.Count);
        U32(24, at + (uint)modulesAt);
        U32(44, (uint)(map.Count * MapEntrySize));
        U32(48, at + (uint)mapAt);
        U32(64, at + (uint)loaderName);
        for (int i = 0; i < modules.Count; i++)
        {
            U32(modulesAt + (i * ModuleSize), modules[i].Range.Start);
            U32(modulesAt + (i * ModuleSize) + 4, modules[i].Range.End);
            U32(modulesAt + (i * ModuleSize) + 8, at + (uint)moduleTexts[i]);
        }

        for (int i = 0; i < map.Count; i++)
        {
            int entry = mapAt + (i * MapEntrySize);
            U32(entry, MapEntrySize - 4); // the size field does not count itself
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(entry + 4), map[i].Start);
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(entry + 12), map[i].Size);
            U32(entry + 20, (uint)map[i].Type);
        }

        context.Write(at, bytes);
        return at;
    }
}
