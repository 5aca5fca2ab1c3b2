using System.Management.Automation;
using VirtPS.Client;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;

namespace VirtPS.Commands;

/// <summary>Get-VirtHotSpot: where a running guest spends its time, by sampling.</summary>
[Cmdlet(VerbsCommon.Get, "VirtHotSpot", DefaultParameterSetName = NameSet)]
[OutputType(typeof(HotSpot))]
public sealed class GetVirtHotSpot : VirtVMCmdlet
{
    private KernelSymbols? _symbols;

    /// <summary>Seconds.</summary>
    [Parameter]
    [ValidateRange(0.01, 3600.0)]
    public double Duration { get; set; } = 2;

    /// <summary>The hottest places, at most so many.</summary>
    [Parameter]
    [ValidateRange(1, 1000)]
    public int First { get; set; } = 20;

    /// <summary>A System.map, or what /proc/kallsyms gave in the guest.</summary>
    [Parameter]
    [ValidateNotNullOrEmpty]
    public string? SymbolFile { get; set; }

    protected override void BeginProcessing()
    {
        base.BeginProcessing();
        if (SymbolFile is null)
            return;
        try
        {
            _symbols = KernelSymbols.Read(GetUnresolvedProviderPathFromPSPath(SymbolFile));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            ThrowTerminatingError(new ErrorRecord(e, "SymbolFileInvalid", e is FormatException ? ErrorCategory.InvalidData : ErrorCategory.OpenError, SymbolFile));
        }
    }

    private protected override void Process(VirtualMachine vm)
    {
        IReadOnlyList<HotSpot> spots = Await(token => VirtHost.GetHotSpotsAsync(vm.Id, TimeSpan.FromSeconds(Duration), First, token));
        if (spots.Count == 0)
            WriteWarning($"'{vm.Name}' was halted in all of the {Duration} s.");
        WriteObject(_symbols is null ? spots : spots.Select(s => s with { Symbol = _symbols.Find(s.Address) }), enumerateCollection: true);
    }
}

/// <summary>A kernel's symbols by address: lines of address (hexadecimal), type letter, name.</summary>
internal sealed class KernelSymbols
{
    private readonly ulong[] _addresses;
    private readonly string[] _names;

    private KernelSymbols(SortedList<ulong, string> symbols)
    {
        _addresses = [.. symbols.Keys];
        _names = [.. symbols.Values];
    }

    /// <summary>Code symbols of the file. <see cref="FormatException"/> names the first line that is none, or says that there is no code symbol.</summary>
    public static KernelSymbols Read(string path)
    {
        var symbols = new SortedList<ulong, string>();
        int number = 0;
        var found = new List<(ulong Address, string Name)>();
        foreach (string line in File.ReadLines(path))
        {
            number++;
            string[] parts = line.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries);
            if (parts.Length == 0)
                continue;
            if (parts.Length < 3 || parts[1].Length != 1 || !ulong.TryParse(parts[0], System.Globalization.NumberStyles.HexNumber, null, out ulong address))
                throw new FormatException($"Line {number} of '{path}' is not 'address type name' as in a System.map.");
            if (address != 0 && parts[1][0] is 't' or 'T' or 'w' or 'W')
                found.Add((address, parts[2]));
        }

        foreach ((ulong address, string name) in found.OrderBy(f => f.Address))
            symbols.TryAdd(address, name);
        if (symbols.Count == 0)
            throw new FormatException($"'{path}' has no code symbol with an address; /proc/kallsyms shows addresses to root alone.");
        return new KernelSymbols(symbols);
    }

    /// <summary>The symbol at or before an address and the distance to it; null before the first and 64 KiB behind one.</summary>
    public string? Find(ulong address)
    {
        int i = Array.BinarySearch(_addresses, address);
        if (i < 0)
            i = ~i - 1;
        if (i < 0 || address - _addresses[i] > 0xFFFF)
            return null;
        return address == _addresses[i] ? _names[i] : $"{_names[i]}+0x{address - _addresses[i]:x}";
    }
}
