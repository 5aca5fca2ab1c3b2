using System.IO.Compression;
using K4os.Compression.LZ4;
using VirtPS.Engine.Boot;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.X86;

namespace VirtPS.Boot.Tests;

public unsafe class LoaderTests
{
    [Fact]
    public void LinuxGetsItsZeroPageAndLongMode()
    {
        using var machine = new TestMachine();
        byte[] initrd = [.. Enumerable.Range(0, 5000).Select(i => (byte)i)];
        GuestEntry entry = machine.Load(new BootConfiguration
        {
            Kernel = machine.WriteFile("vmlinuz", Images.BzImage()),
            Initrd = machine.WriteFile("initrd", initrd),
            CommandLine = "console=ttyS0",
        });

        VcpuState* s = machine.State;
        Assert.Equal(0x100_0200ul, entry.EntryPoint);
        Assert.Equal((0x100_0200ul, CpuMode.Long), (s->Rip, s->Mode));
        Assert.Equal(0xF4, machine.Bytes(s->Rip, 1)[0]);
        Assert.Equal((0x10, 0x18), (s->CS.Selector, s->DS.Selector));
        Assert.Equal(Rflags.Fixed1, s->Rflags);
        ulong zeroPage = s->Gpr[(int)Gpr.Rsi];
        Assert.Equal("HdrS"u8.ToArray(), machine.Bytes(zeroPage + 0x202, 4));
        Assert.Equal(0xFF, machine.Read<byte>(zeroPage + 0x210));
        Assert.Equal("console=ttyS0", machine.Text(machine.Read<uint>(zeroPage + 0x228)));
        ulong initrdAt = machine.Read<uint>(zeroPage + 0x218);
        Assert.Equal((uint)initrd.Length, machine.Read<uint>(zeroPage + 0x21C));
        Assert.Equal((64ul << 20) - 8192, initrdAt);
        Assert.Equal(initrd, machine.Bytes(initrdAt, initrd.Length));
        Assert.Equal("RSD PTR "u8.ToArray(), machine.Bytes(machine.Read<ulong>(zeroPage + 0x70), 8));
        Assert.Equal(3, machine.Read<byte>(zeroPage + 0x1E8));
        Assert.Equal((0x10_0000ul, 63ul << 20, 1u), (machine.Read<ulong>(zeroPage + 0x2D0 + 40), machine.Read<ulong>(zeroPage + 0x2D0 + 48), machine.Read<uint>(zeroPage + 0x2D0 + 56)));
    }

    [Fact]
    public void LongModeTablesMapFourGigabytesToThemselves()
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration { Kernel = machine.WriteFile("vmlinuz", Images.BzImage()) });
        foreach (ulong address in (ReadOnlySpan<ulong>)[0, 0x1FFFFF, 0x100_0200, 0x3FFF_FFFF, 0x4000_0000, 0xFEE0_0000, 0xFFFF_FFFF])
        {
            ulong pml4 = machine.Read<ulong>(machine.State->Cr3 + ((address >> 39) * 8));
            ulong pdpt = machine.Read<ulong>((pml4 & PageBits.AddressMask) + (((address >> 30) & 511) * 8));
            ulong page = machine.Read<ulong>((pdpt & PageBits.AddressMask) + (((address >> 21) & 511) * 8));
            Assert.Equal(PageBits.P | PageBits.RW | PageBits.PS, page & 0xFFF);
            Assert.Equal(address & ~0x1F_FFFFul, page & PageBits.AddressMask);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(15)]
    public void TheLastParagraphOfABzImageMayBeIncomplete(int missing)
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration { Kernel = machine.WriteFile("vmlinuz", Images.BzImage()[..^missing]) });
        Assert.Equal(0xF4, machine.Read<byte>(0x100_0200));
    }

    [Fact]
    public void TheDescriptorTableInMemoryAgreesWithTheSegmentRegisters()
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration { Kernel = machine.WriteFile("vmlinuz", Images.BzImage()) });
        VcpuState* s = machine.State;
        foreach (SegmentRegister register in (ReadOnlySpan<SegmentRegister>)[s->CS, s->DS, s->SS, s->TR])
        {
            ulong descriptor = machine.Read<ulong>(s->Gdtr.Base + register.Selector);
            Assert.Equal(SegmentRegister.FromDescriptor(register.Selector, descriptor), register);
        }
    }

    [Fact]
    public void TheInitrdRespectsTheKernelsLimit()
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration
        {
            Kernel = machine.WriteFile("vmlinuz", Images.BzImage(initrdMax: 0x02FF_FFFF)),
            Initrd = machine.WriteFile("initrd", new byte[4096]),
        });
        Assert.Equal(0x2FF_F000u, machine.Read<uint>(machine.State->Gpr[(int)Gpr.Rsi] + 0x218));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void PvhGetsItsStartInfo(bool is64)
    {
        using var machine = new TestMachine();
        GuestEntry entry = machine.Load(new BootConfiguration
        {
            Kernel = machine.WriteFile("vmlinux", Images.Elf([0xF4, 1, 2, 3], pvhEntry: 0x10_0001, is64: is64, machine: (ushort)(is64 ? 62 : 3), bss: 8192)),
            Initrd = machine.WriteFile("initrd", [9, 8, 7]),
            CommandLine = "quiet",
        });
        VcpuState* s = machine.State;
        Assert.Equal((0x10_0001ul, CpuMode.Protected32), (s->Rip, s->Mode));
        Assert.Equal(entry.EntryPoint, s->Rip);
        Assert.Equal((0ul, 0ul, Cr0.PE | Cr0.ET), (s->Cr4, s->Efer, s->Cr0));
        Assert.Equal(0x67u, s->TR.Limit);
        ulong info = s->Gpr[(int)Gpr.Rbx];
        Assert.Equal((0x336EC578u, 1u), (machine.Read<uint>(info), machine.Read<uint>(info + 4)));
        Assert.Equal("quiet", machine.Text(machine.Read<ulong>(info + 24)));
        Assert.Equal("RSD PTR "u8.ToArray(), machine.Bytes(machine.Read<ulong>(info + 32), 8));
        Assert.Equal(3u, machine.Read<uint>(info + 48));
        ulong map = machine.Read<ulong>(info + 40);
        Assert.Equal((0x9FC00ul, 2u), (machine.Read<ulong>(map + 24), machine.Read<uint>(map + 40)));
        Assert.Equal(1u, machine.Read<uint>(info + 12));
        ulong module = machine.Read<ulong>(info + 16);
        Assert.Equal(3ul, machine.Read<ulong>(module + 8));
        Assert.Equal([9, 8, 7], machine.Bytes(machine.Read<ulong>(module), 3));
    }

    [Theory]
    [InlineData("lz4")]
    [InlineData("gzip")]
    [InlineData("zstd")]
    [InlineData("xz")]
    public void PvhTakesTheKernelOutOfABzImage(string format)
    {
        Assert.SkipUnless(format != "xz" || Tools.Find("xz") is not null, "xz is not installed");
        byte[] code = [.. Enumerable.Range(0, 100_000).Select(i => (byte)(i * i >> 7))];
        byte[] elf = Images.Elf(code, pvhEntry: 0x10_0000);
        using var machine = new TestMachine();
        byte[] payload = Compress(format, elf, machine);
        machine.Load(new BootConfiguration { Kind = BootKind.Pvh, Kernel = machine.WriteFile("vmlinuz", Images.BzImage(payload)) });
        Assert.Equal(0x10_0000ul, machine.State->Rip);
        Assert.Equal(code, machine.Bytes(0x10_0000, code.Length));
    }

    [Fact]
    public void MultibootElfGetsModulesAndMemoryMap()
    {
        using var machine = new TestMachine();
        byte[] code = [.. Images.MultibootHeader(), 0xF4];
        string module = machine.WriteFile("module.bin", [5, 6, 7]);
        machine.Load(new BootConfiguration
        {
            Kernel = machine.WriteFile("kernel", Images.Elf(code, is64: false, machine: 3, virtualBias: 0xC000_0000)),
            CommandLine = "a b",
            Modules = [$"{module} some text", module],
        });
        VcpuState* s = machine.State;
        Assert.Equal(0x2BADB002ul, s->Gpr[(int)Gpr.Rax]);
        Assert.Equal((0x10_0000ul, CpuMode.Protected32), (s->Rip, s->Mode));
        ulong info = s->Gpr[(int)Gpr.Rbx];
        uint flags = machine.Read<uint>(info);
        Assert.Equal(1u | 4 | 8 | 64 | 512, flags);
        Assert.Equal((639u, (63u << 10)), (machine.Read<uint>(info + 4), machine.Read<uint>(info + 8)));
        Assert.Equal("a b", machine.Text(machine.Read<uint>(info + 16)));
        Assert.Equal(2u, machine.Read<uint>(info + 20));
        ulong modules = machine.Read<uint>(info + 24);
        uint start = machine.Read<uint>(modules), end = machine.Read<uint>(modules + 4);
        Assert.Equal((0u, 3u), (start & 0xFFF, end - start));
        Assert.Equal([5, 6, 7], machine.Bytes(start, 3));
        Assert.Equal($"{module} some text", machine.Text(machine.Read<uint>(modules + 8)));
        Assert.NotEqual(start, machine.Read<uint>(modules + 16));
        Assert.Equal(3u * 24, machine.Read<uint>(info + 44));
        Assert.Equal(20u, machine.Read<uint>(machine.Read<uint>(info + 48)));
    }

    [Fact]
    public void MultibootAddressFieldsPlaceAFlatKernelAndClearItsBss()
    {
        using var machine = new TestMachine();
        byte[] body = new byte[16];
        Array.Fill(body, (byte)0x90);
        machine.Memory.TryWrite(0x20_0000 + 64, [0xAA, 0xAA]); // left from a former run
        byte[] file = [.. new byte[16], .. Images.MultibootHeader(header: 0x20_0000, load: 0x20_0000, loadEnd: 0x20_0030, bssEnd: 0x20_1000, entry: 0x20_0020), .. body, 0xEE];
        machine.Load(new BootConfiguration { Kernel = machine.WriteFile("kernel", file) });
        Assert.Equal(0x20_0020ul, machine.State->Rip);
        Assert.Equal(body, machine.Bytes(0x20_0020, 16));
        Assert.Equal(new byte[32], machine.Bytes(0x20_0030, 32));
    }

    [Fact]
    public void ABootSectorStartsInRealMode()
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration { Kind = BootKind.BootSector, Kernel = machine.WriteFile("boot", Images.BootSector()) });
        VcpuState* s = machine.State;
        Assert.Equal((0x7C00ul, CpuMode.Real, 0ul), (s->Rip, s->Mode, s->CS.Base));
        Assert.Equal((0x80ul, 0x7C00ul), (s->Gpr[(int)Gpr.Rdx], s->Gpr[(int)Gpr.Rsp]));
        Assert.Equal(0xF4, machine.Bytes(0x7C00, 1)[0]);
        uint vector = machine.Read<uint>(0x10 * 4);
        Assert.Equal(0xCF, machine.Bytes(((vector >> 16) << 4) + (vector & 0xFFFF), 1)[0]); // IRET, not garbage
        Assert.Equal(0x9FC0, machine.Read<ushort>(0x40E));
    }

    [Theory]
    [InlineData(FlatEntryMode.Real16, 0x7C00ul, CpuMode.Real, 0ul)]
    [InlineData(FlatEntryMode.Real16, 0x12340ul, CpuMode.Real, 0x12340ul)]
    [InlineData(FlatEntryMode.Protected32, 0x10_0000ul, CpuMode.Protected32, 0ul)]
    [InlineData(FlatEntryMode.Long64, 0x10_0000ul, CpuMode.Long, 0ul)]
    public void AFlatBinaryStartsWhereAndHowItIsTold(FlatEntryMode mode, ulong address, CpuMode expected, ulong codeBase)
    {
        using var machine = new TestMachine();
        machine.Load(new BootConfiguration { Kind = BootKind.Flat, Kernel = machine.WriteFile("flat", [0xF4]), LoadAddress = address, EntryMode = mode });
        VcpuState* s = machine.State;
        Assert.Equal((expected, codeBase), (s->Mode, s->CS.Base));
        Assert.Equal(address, s->CS.Base + s->Rip);
        Assert.Equal(0xF4, machine.Bytes(address, 1)[0]);
    }

    internal static byte[] Compress(string format, byte[] content, TestMachine machine)
    {
        var buffer = new MemoryStream();
        switch (format)
        {
            case "gzip":
                using (var gzip = new GZipStream(buffer, CompressionLevel.Fastest, leaveOpen: true))
                    gzip.Write(content);
                return buffer.ToArray(); // its own last four bytes are the size
            case "lz4":
                byte[] block = new byte[LZ4Codec.MaximumOutputSize(content.Length)];
                int n = LZ4Codec.Encode(content, block);
                buffer.Write([0x02, 0x21, 0x4C, 0x18, .. BitConverter.GetBytes(n)]);
                buffer.Write(block.AsSpan(0, n));
                break;
            case "zstd":
                using (var zstd = new SharpCompress.Compressors.ZStandard.CompressionStream(buffer, 3, 0, leaveOpen: true))
                    zstd.Write(content);
                break;
            case "xz":
                string file = machine.WriteFile("elf", content);
                Tools.Run("xz", Path.GetDirectoryName(file)!, "--check=crc32", "--x86", "--lzma2=dict=32MiB", "elf");
                buffer.Write(File.ReadAllBytes(file + ".xz"));
                break;
        }

        buffer.Write(BitConverter.GetBytes(content.Length));
        return buffer.ToArray();
    }
}
