using System.Buffers.Binary;
using System.Diagnostics;
using System.Text;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Machine;

namespace VirtPS.Boot.Tests;

public class FirmwareTests
{
    [Theory]
    [InlineData(1ul << 20, 1, 0ul)]
    [InlineData(512ul << 20, 1, 511ul << 20)]
    [InlineData(3ul << 30, 1, (3ul << 30) - (1 << 20))]
    [InlineData(4ul << 30, 2, (3ul << 30) - (1 << 20))]
    public void RamSplitsAtThePciHole(ulong ram, int slots, ulong aboveOneMegabyte)
    {
        MemoryLayout layout = MemoryLayout.ForRam(ram);
        Assert.Equal(slots, layout.Ram.Count);
        Assert.Equal(ram, layout.TotalRam);
        Assert.DoesNotContain(layout.Ram, r => r.Start < MemoryLayout.FourGigabytes && r.End > PcLayout.PciMmioStart);
        Assert.Equal(aboveOneMegabyte, layout.E820.FirstOrDefault(e => e.Start == MemoryLayout.OneMegabyte).Size);
        Assert.Contains(layout.E820, e => e is { Start: 0x9FC00, End: 0x100000, Type: E820Type.Reserved });
        for (int i = 1; i < layout.E820.Count; i++)
            Assert.True(layout.E820[i - 1].End <= layout.E820[i].Start, "entries overlap or are out of order");
        if (slots == 2)
            Assert.Equal(new MemoryRange(MemoryLayout.FourGigabytes, 1ul << 30), layout.Ram[1]);
    }

    [Fact]
    public void TooLittleRamIsRefused() => Assert.Throws<ArgumentOutOfRangeException>(() => MemoryLayout.ForRam(512 << 10));

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(64)]
    public void TablesPointToEachOtherAndSumToZero(int vcpus)
    {
        AcpiTables tables = AcpiTables.Build(FirmwarePlatform.Standard(vcpus), MemoryLayout.FirmwareArea);
        byte[] content = tables.Content.ToArray();
        Assert.True(content.Length < 0x1FFE0, "the tables must fit below 1 MiB");
        Span<byte> At(ulong address) => content.AsSpan((int)(address - MemoryLayout.FirmwareArea));
        Assert.Equal(0ul, tables.Rsdp & 15);
        Span<byte> rsdp = At(tables.Rsdp)[..36];
        Assert.Equal(0, Sum(rsdp[..20]));
        Assert.Equal(0, Sum(rsdp));
        Span<byte> xsdt = Table(At(BinaryPrimitives.ReadUInt64LittleEndian(rsdp[24..])), "XSDT");
        Span<byte> fadt = Table(At(BinaryPrimitives.ReadUInt64LittleEndian(xsdt[36..])), "FACP");
        Span<byte> madt = Table(At(BinaryPrimitives.ReadUInt64LittleEndian(xsdt[44..])), "APIC");
        Table(At(BinaryPrimitives.ReadUInt64LittleEndian(fadt[140..])), "DSDT");
        uint facs = BinaryPrimitives.ReadUInt32LittleEndian(fadt[36..]);
        Assert.Equal(0u, facs & 63);
        Assert.Equal("FACS", Encoding.ASCII.GetString(At(facs)[..4]));
        Assert.Equal(vcpus, CountMadtEntries(madt[44..], type: 0));
        Assert.Equal(1, CountMadtEntries(madt[44..], type: 1));
        Assert.Equal(2, CountMadtEntries(madt[44..], type: 2));
    }

    [Fact]
    public void IaslReadsWhatWasWritten()
    {
        Assert.SkipUnless(Tools.Find("iasl") is not null, "iasl (acpica-tools) is not installed");
        AcpiTables tables = AcpiTables.Build(FirmwarePlatform.Standard(3), MemoryLayout.FirmwareArea);
        string folder = Directory.CreateTempSubdirectory("virtps-acpi-").FullName;
        try
        {
            Assert.Contains("_S5", Disassemble(tables, folder, "DSDT"), StringComparison.Ordinal);
            string dsdt = Disassemble(tables, folder, "DSDT");
            foreach (string expected in (ReadOnlySpan<string>)["Device (PCI0)", "EisaId (\"PNP0A03\")", "EisaId (\"PNP0501\")", "EisaId (\"PNP0303\")",
                "Device (C002)", "0x03F8,", "IRQNoFlags ()", "WordBusNumber (ResourceProducer", "DWordMemory (ResourceProducer", "0xC0000000,", "0xFEBFFFFF,"])
                Assert.Contains(expected, dsdt, StringComparison.Ordinal);
            Assert.DoesNotContain("Device (C003)", dsdt, StringComparison.Ordinal);
            string fadt = Disassemble(tables, folder, "FACP");
            Assert.Contains("SMI Command Port : 00000000", fadt, StringComparison.Ordinal);
            Assert.Contains("PM1A Control Block Address : 00000604", fadt, StringComparison.Ordinal);
            Assert.Contains("Reset Register Supported (V2) : 1", fadt, StringComparison.Ordinal);
            Assert.Contains("Local Apic ID : 02", Disassemble(tables, folder, "APIC"), StringComparison.Ordinal);
            // What iasl has written it must accept again without a single error or warning.
            string compiled = Tools.Run("iasl", folder, "-p", "again", "DSDT.dsl");
            Assert.Contains("Compilation successful. 0 Errors, 0 Warnings", compiled, StringComparison.Ordinal);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Disassemble(AcpiTables tables, string folder, string signature)
    {
        int offset = (int)(tables.Addresses[signature] - MemoryLayout.FirmwareArea);
        int length = BinaryPrimitives.ReadInt32LittleEndian(tables.Content.Span[(offset + 4)..]);
        File.WriteAllBytes(Path.Combine(folder, signature + ".aml"), tables.Content.Slice(offset, length).ToArray());
        Tools.Run("iasl", folder, "-d", signature + ".aml");
        return File.ReadAllText(Path.Combine(folder, signature + ".dsl"));
    }

    private static Span<byte> Table(Span<byte> at, string signature)
    {
        Assert.Equal(signature, Encoding.ASCII.GetString(at[..4]));
        Span<byte> table = at[..BinaryPrimitives.ReadInt32LittleEndian(at[4..])];
        Assert.Equal(0, Sum(table));
        return table;
    }

    private static int CountMadtEntries(ReadOnlySpan<byte> entries, byte type)
    {
        int count = 0;
        for (; entries.Length > 0; entries = entries[entries[1]..])
            count += entries[0] == type ? 1 : 0;
        return count;
    }

    private static byte Sum(ReadOnlySpan<byte> bytes)
    {
        byte sum = 0;
        foreach (byte b in bytes)
            sum += b;
        return sum;
    }
}

/// <summary>Programs of the host that serve as oracles.</summary>
internal static class Tools
{
    public static string? Find(string program) => (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Select(folder => Path.Combine(folder, program)).FirstOrDefault(File.Exists);

    /// <summary>Runs a program to its end (30 s at most) and returns both outputs.</summary>
    public static string Run(string program, string folder, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments)
        {
            WorkingDirectory = folder,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            RedirectStandardInput = true,
        })!;
        process.StandardInput.Close();
        Task<string> output = process.StandardOutput.ReadToEndAsync(), error = process.StandardError.ReadToEndAsync();
        if (!process.WaitForExit(TimeSpan.FromSeconds(30)))
            process.Kill(entireProcessTree: true);
        return output.Result + error.Result;
    }
}
