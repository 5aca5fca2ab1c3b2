using System.Buffers.Binary;
using System.Text;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Engine.Boot;

/// <summary>Linux bzImage by the 64-bit boot protocol (Documentation/arch/x86/boot.rst §1.15; zero-page.rst).</summary>
public sealed unsafe class LinuxLoader : IGuestLoader
{
    private const int ZeroPageSize = 4096, E820TableOffset = 0x2D0, MaxE820Entries = 128;
    private const ulong LongModeEntry = 0x200;

    public BootKind Kind => BootKind.Linux;

    public bool Recognises(GuestImage image) => LinuxHeader.Recognises(image.ReadHeader(LinuxHeader.RecognisedBy));

    public GuestEntry Load(BootContext context)
    {
        GuestImage image = context.Kernel;
        LinuxHeader header = LinuxHeader.Read(image);
        Check(image, header);
        ulong load = header.PreferredAddress;
        ulong room = Math.Max(header.InitSize, header.KernelSize);
        context.Plan.Take(load, room, "the kernel", image.Name);
        image.CopyTo(context.Memory, header.SetupSize, load, Math.Min(header.KernelSize, image.Length - header.SetupSize), "kernel code");

        byte[] zeroPage = new byte[ZeroPageSize];
        header.SetupHeader.CopyTo(zeroPage.AsSpan(LinuxHeader.FirstByte));
        zeroPage[0x210] = 0xFF; // type_of_loader: not a registered one
        BinaryPrimitives.WriteUInt64LittleEndian(zeroPage.AsSpan(0x070), context.Rsdp);
        PutMemoryMap(zeroPage, context.Layout);
        PutCommandLine(context, header, zeroPage);
        PutInitrd(context, header, zeroPage, load + room);
        ulong zeroPageAddress = CpuEntry.TakeLow(context, ZeroPageSize, ZeroPageSize, "the zero page");
        context.Write(zeroPageAddress, zeroPage);

        CpuEntry.EnterLong(context, load + LongModeEntry);
        context.State->Gpr[(int)Gpr.Rsi] = zeroPageAddress;
        return new GuestEntry($"Linux bzImage, boot protocol {header.Version >> 8}.{header.Version & 0xFF}", load + LongModeEntry, CpuMode.Long);
    }

    private static void Check(GuestImage image, LinuxHeader header)
    {
        if (header.Version < 0x20C || !header.Has64BitEntry)
        {
            throw ImageFault.At(image.Name, 0x236, "xloadflags", "the kernel has no 64-bit entry point (a 32-bit kernel, or one before Linux 3.8)",
                "Use an x86-64 kernel of Linux 3.8 or later.");
        }

        if (!header.LoadedHigh)
            throw ImageFault.At(image.Name, 0x211, "loadflags", "this is a zImage, which loads below 640 KiB", "Use a bzImage.");
        if (header.KernelSize <= LongModeEntry)
            throw ImageFault.At(image.Name, 0x1F4, "syssize", "there is no kernel behind the set-up code", "Fetch the kernel again.");
    }

    private static void PutMemoryMap(byte[] zeroPage, MemoryLayout layout)
    {
        int count = Math.Min(layout.E820.Count, MaxE820Entries);
        zeroPage[0x1E8] = (byte)count;
        for (int i = 0; i < count; i++)
        {
            Span<byte> entry = zeroPage.AsSpan(E820TableOffset + (i * 20));
            BinaryPrimitives.WriteUInt64LittleEndian(entry, layout.E820[i].Start);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[8..], layout.E820[i].Size);
            BinaryPrimitives.WriteUInt32LittleEndian(entry[16..], (uint)layout.E820[i].Type);
        }
    }

    private static void PutCommandLine(BootContext context, LinuxHeader header, byte[] zeroPage)
    {
        byte[] text = Encoding.UTF8.GetBytes(context.Boot.CommandLine + '\0');
        if ((ulong)text.Length - 1 > header.CommandLineSize)
        {
            throw ImageFault.At(context.Kernel.Name, 0x238, "cmdline_size",
                $"the command line has {text.Length - 1} bytes, this kernel takes {header.CommandLineSize}", "Shorten -CommandLine.");
        }

        ulong address = CpuEntry.TakeLow(context, (ulong)text.Length, 16, "the command line");
        context.Write(address, text);
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage.AsSpan(0x228), (uint)address);
    }

    /// <summary>As high as the kernel allows, because it decompresses itself upwards from its load address.</summary>
    private static void PutInitrd(BootContext context, LinuxHeader header, byte[] zeroPage, ulong kernelEnd)
    {
        if (context.Boot.Initrd is not { } path)
            return;
        using GuestImage initrd = GuestImage.Open(path);
        ulong limit = (ulong)header.InitrdAddressMax + 1;
        ulong address = context.Plan.TakeHighest(initrd.Length, 4096, MemoryLayout.OneMegabyte, limit, "the initrd")
            ?? throw InitrdFault.DoesNotFit(initrd, context.Kernel.Name, kernelEnd, limit);
        initrd.CopyTo(context.Memory, 0, address, initrd.Length, "initrd");
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage.AsSpan(0x218), (uint)address);
        BinaryPrimitives.WriteUInt32LittleEndian(zeroPage.AsSpan(0x21C), (uint)initrd.Length);
    }
}
