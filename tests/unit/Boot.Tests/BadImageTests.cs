using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Boot.Tests;

/// <summary>Every bad image gives one error: ImageInvalid, naming the file, the place and a remedy.</summary>
public class BadImageTests
{
    private static readonly Dictionary<string, (Func<byte[]> File, Func<BootConfiguration, BootConfiguration> Boot, string Expected)> Cases = new()
    {
        ["empty"] = (() => [], b => b, "the file is empty"),
        ["noise"] = (() => [.. Enumerable.Range(0, 3000).Select(i => (byte)(i * 31))], b => b, "not a kernel in any format"),
        ["text"] = (() => "hello"u8.ToArray(), b => b, "not a kernel in any format"),
        ["gzip"] = (() => [0x1F, 0x8B, 8, 0, 0], b => b, "gzip file, not a kernel"),
        ["disk"] = (() => Images.BootSector(), b => b, "looks like a boot sector"),
        ["not Linux"] = (() => new byte[4096], b => b with { Kind = BootKind.Linux }, "0x202: not a Linux bzImage"),
        ["bzImage cut in header"] = (() => Images.BzImage()[..0x240], b => b, "setup header at offset 0x240"),
        ["bzImage cut in setup"] = (() => Images.BzImage()[..0x400], b => b, "setup_sects at offset 0x1F1"),
        ["bzImage cut in kernel"] = (() => Images.BzImage()[..0x700], b => b, "syssize at offset 0x1F4: the kernel has"),
        ["old protocol"] = (() => Images.BzImage(version: 0x20A), b => b, "no 64-bit entry point"),
        ["32-bit kernel"] = (() => Images.BzImage(xloadflags: 0), b => b, "xloadflags at offset 0x236"),
        ["kernel bigger than RAM"] = (() => Images.BzImage(initSize: 100 << 20), b => b, "needs at least 116 MB"),
        ["long command line"] = (() => Images.BzImage(commandLineSize: 10), b => b with { CommandLine = "12345678901" }, "cmdline_size at offset 0x238"),
        ["modules for Linux"] = (() => Images.BzImage(), b => b with { Modules = ["x"] }, "take none"),
        ["ELF cut in header"] = (() => Images.Elf([1])[..40], b => b, "ELF header at offset 0x0"),
        ["ELF cut in segment"] = (() => Images.Elf(new byte[100], pvhEntry: 1)[..0x1010], b => b, "the file ends at 0x1010"),
        ["ELF of another machine"] = (() => Images.Elf([1], machine: 183), b => b, "e_machine at offset 0x12"),
        ["ELF without note"] = (() => Images.Elf([1]), b => b, "neither a PVH entry note nor a Multiboot header"),
        ["PVH asked, no note"] = (() => Images.Elf([1]), b => b with { Kind = BootKind.Pvh }, "no PVH entry note"),
        ["ELF beyond RAM"] = (() => Images.Elf([1], 0x1000_0000, pvhEntry: 1), b => b, "needs at least 257 MB"),
        ["ELF in ROM"] = (() => Images.Elf([1], 0xF0000, pvhEntry: 1), b => b, "never has usable RAM"),
        ["ELF over the BIOS data"] = (() => Images.Elf([1], 0x400, pvhEntry: 1), b => b, "overlaps the interrupt vectors"),
        ["ELF wraps around"] = (() => Images.Elf([1], ulong.MaxValue - 4, pvhEntry: 1, bss: 4096), b => b, "beyond the address space"),
        ["PVH from uncompressible bzImage"] = (() => Images.BzImage(), b => b with { Kind = BootKind.Pvh }, "is not plausible"),
        ["PVH from damaged bzImage"] = (() => Images.BzImage([0x28, 0xB5, 0x2F, 0xFD, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0x10, 0, 0]), b => b with { Kind = BootKind.Pvh }, "cannot be decompressed"),
        ["Multiboot wants video"] = (() => [.. Images.MultibootHeader(flags: 7), .. new byte[64]], b => b, "asks for a video mode"),
        ["Multiboot unknown flags"] = (() => [.. Images.MultibootHeader(flags: 0x103), .. new byte[64]], b => b, "requires features 0x100"),
        ["Multiboot without ELF"] = (() => [.. Images.MultibootHeader(), .. new byte[64]], b => b, "not an ELF file"),
        ["Multiboot cut"] = (() => Images.MultibootHeader(header: 0x100000, load: 0x100000, loadEnd: 0x100100), b => b, "the file ends at 0x20"),
        ["Multiboot bad addresses"] = (() => Images.MultibootHeader(header: 0x100000, load: 0x100010), b => b, "load_addr"),
        ["Multiboot module missing"] = (() => [.. Images.MultibootHeader(header: 0x100000, load: 0x100000)], b => b with { Modules = ["/nowhere/module arg"] }, "'/nowhere/module': there is no such file"),
        ["Multiboot asked"] = (() => new byte[100], b => b with { Kind = BootKind.Multiboot }, "no Multiboot header"),
        ["boot sector short"] = (() => new byte[100], b => b with { Kind = BootKind.BootSector }, "boot signature at offset 0x1FE"),
        ["boot sector unsigned"] = (() => Images.BootSector(signature: false), b => b with { Kind = BootKind.BootSector }, "is 34 12, not 55 AA"),
        ["boot sector with initrd"] = (() => Images.BootSector(), b => b with { Kind = BootKind.BootSector, Initrd = "x" }, "take none"),
        ["flat too high for real mode"] = (() => [1], b => b with { Kind = BootKind.Flat, LoadAddress = 0x10_0000 }, "cannot be reached in mode Real16"),
        ["flat beyond RAM"] = (() => [1], b => b with { Kind = BootKind.Flat, LoadAddress = 0x800_0000, EntryMode = FlatEntryMode.Long64 }, "needs at least 129 MB"),
        ["flat too large for low memory"] = (() => new byte[700 << 10], b => b with { Kind = BootKind.Flat }, "never has usable RAM"),
    };

    public static TheoryData<string> Names => [.. Cases.Keys];

    [Theory]
    [MemberData(nameof(Names))]
    public void GivesOneClearError(string name)
    {
        (Func<byte[]> file, Func<BootConfiguration, BootConfiguration> boot, string expected) = Cases[name];
        using var machine = new TestMachine();
        string path = machine.WriteFile("image", file());
        VirtException e = Assert.Throws<VirtException>(() => machine.Load(boot(new BootConfiguration { Kernel = path })));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Contains(expected, e.Message, StringComparison.Ordinal);
        Assert.False(string.IsNullOrWhiteSpace(e.RecommendedAction));
        if (!name.Contains("module missing", StringComparison.Ordinal))
            Assert.Contains(path, e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnInitrdThatDoesNotFitSaysHowMuchMemoryWouldDo()
    {
        using var machine = new TestMachine();
        var boot = new BootConfiguration
        {
            Kernel = machine.WriteFile("vmlinuz", Images.BzImage()),
            Initrd = machine.WriteFile("initrd", new byte[60 << 20]),
        };
        VirtException e = Assert.Throws<VirtException>(() => machine.Load(boot));
        Assert.Equal("ImageInvalid", e.ErrorId);
        Assert.Contains("needs at least 78 MB", e.Message, StringComparison.Ordinal); // 16 MB + 2 MB kernel + 60 MB
        Assert.Contains(boot.Initrd!, e.Message, StringComparison.Ordinal);
        using var larger = new TestMachine(78 << 20);
        larger.Load(boot); // and that much does
    }

    [Fact]
    public void AnEmptyInitrdIsNamed()
    {
        using var machine = new TestMachine();
        var boot = new BootConfiguration { Kernel = machine.WriteFile("vmlinuz", Images.BzImage()), Initrd = machine.WriteFile("initrd", []) };
        Assert.Contains("initrd': the file is empty", Assert.Throws<VirtException>(() => machine.Load(boot)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AFolderIsNotAKernel()
    {
        using var machine = new TestMachine();
        Assert.Contains("is a folder", Assert.Throws<VirtException>(() => machine.Load(new BootConfiguration { Kernel = Path.GetTempPath() })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AnUnreadableFileIsNamed()
    {
        Assert.SkipWhen(OperatingSystem.IsWindows() || Environment.IsPrivilegedProcess, "permissions do not bind this user");
        using var machine = new TestMachine();
        string path = machine.WriteFile("vmlinuz", Images.BzImage());
        if (!OperatingSystem.IsWindows())
            File.SetUnixFileMode(path, UnixFileMode.None);
        Assert.Contains("cannot be read", Assert.Throws<VirtException>(() => machine.Load(new BootConfiguration { Kernel = path })).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void NoKernelAtAllIsSaid()
    {
        using var machine = new TestMachine();
        Assert.Equal("ImageUnavailable", Assert.Throws<VirtException>(() => machine.Load(new BootConfiguration())).ErrorId);
        Assert.Equal("ImageUnavailable", Assert.Throws<VirtException>(() => machine.Load(new BootConfiguration { Kind = BootKind.Linux })).ErrorId);
    }
}
