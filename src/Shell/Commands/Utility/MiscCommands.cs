using System.Globalization;
using System.Management.Automation;
using System.Security.Cryptography;
using Microsoft.PowerShell.Commands;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Commands.Utility;

/// <summary>New-Guid.</summary>
[Cmdlet(VerbsCommon.New, "Guid", DefaultParameterSetName = "Default")]
[OutputType(typeof(Guid))]
public sealed class NewGuidCommand : PSCmdlet
{
    [Parameter(ParameterSetName = "Empty")]
    public SwitchParameter Empty { get; set; }

    [Parameter(Position = 0, ValueFromPipeline = true, ParameterSetName = "InputObject")]
    public string? InputObject { get; set; }

    protected override void ProcessRecord()
    {
        if (InputObject is null)
        {
            WriteObject(Empty ? Guid.Empty : Guid.NewGuid());
        }
        else if (Guid.TryParse(InputObject, out Guid parsed))
        {
            WriteObject(parsed);
        }
        else
        {
            WriteError(new ErrorRecord(new FormatException($"'{InputObject}' is not a GUID."), "StringNotRecognizedAsGuid", ErrorCategory.InvalidArgument, InputObject));
        }
    }
}

/// <summary>Get-Random.</summary>
[Cmdlet(VerbsCommon.Get, "Random", DefaultParameterSetName = "RandomNumberParameterSet")]
public sealed class GetRandomCommand : PSCmdlet
{
    private readonly List<object?> _items = [];

    [Parameter]
    public int? SetSeed { get; set; }

    [Parameter(Position = 0, ParameterSetName = "RandomNumberParameterSet")]
    public object? Maximum { get; set; }

    [Parameter(ParameterSetName = "RandomNumberParameterSet")]
    public object? Minimum { get; set; }

    [AllowNull]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ParameterSetName = "RandomListItemParameterSet")]
    public object[]? InputObject { get; set; }

    [Parameter(ParameterSetName = "RandomListItemParameterSet")]
    [Parameter(ParameterSetName = "RandomNumberParameterSet")]
    [ValidateRange(1, int.MaxValue)]
    public int Count { get; set; } = 1;

    [Parameter(ParameterSetName = "RandomListItemParameterSet")]
    public SwitchParameter Shuffle { get; set; }

    protected override void ProcessRecord() => _items.AddRange(InputObject ?? []);

    protected override void EndProcessing()
    {
#pragma warning disable CA5394 // Get-Random is no source of secrets; a seed must give the same numbers again.
        Random random = SetSeed is { } seed ? new Random(seed) : Random.Shared;
        if (ParameterSetName == "RandomListItemParameterSet")
        {
            object?[] items = _items.ToArray();
            random.Shuffle(items);
            WriteObject(items.Take(Shuffle ? items.Length : Count), enumerateCollection: true);
            return;
        }
        for (int i = 0; i < Count; i++)
        {
            WriteObject(Number(random));
        }
    }

    private object Number(Random random)
    {
        object low = Bare(Minimum) ?? 0;
        object high = Bare(Maximum) ?? int.MaxValue;
        if (low is double or float or decimal || high is double or float or decimal)
        {
            double a = LanguagePrimitives.ConvertTo<double>(low), b = LanguagePrimitives.ConvertTo<double>(high);
            Check(a < b, low, high);
            return a + (random.NextDouble() * (b - a));
        }
        long from = LanguagePrimitives.ConvertTo<long>(low), to = LanguagePrimitives.ConvertTo<long>(high);
        Check(from < to, low, high);
        long value = random.NextInt64(from, to);
        return from >= int.MinValue && to <= int.MaxValue && low is not long && high is not long ? (int)value : value;
    }
#pragma warning restore CA5394

    private void Check(bool valid, object low, object high)
    {
        if (!valid)
        {
            ThrowTerminatingError(new ErrorRecord(
                new ArgumentException($"The Minimum value ({low}) cannot be greater than or equal to the Maximum value ({high})."), "MinGreaterThanOrEqualMax", ErrorCategory.InvalidArgument, null));
        }
    }

    private static object? Bare(object? value) => value is PSObject o ? o.BaseObject : value;
}

/// <summary>Get-FileHash.</summary>
[Cmdlet(VerbsCommon.Get, "FileHash", DefaultParameterSetName = "Path")]
[OutputType(typeof(FileHashInfo))]
public sealed class GetFileHashCommand : PSCmdlet
{
    [Parameter(Position = 0, Mandatory = true, ParameterSetName = "Path", ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public string[] Path { get; set; } = [];

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ParameterSetName = "LiteralPath", ValueFromPipelineByPropertyName = true)]
    public string[] LiteralPath { get; set; } = [];

    [Parameter(Position = 0, Mandatory = true, ParameterSetName = "StreamParameterSet")]
    public Stream? InputStream { get; set; }

    [Parameter(Position = 1)]
    [ValidateSet("SHA1", "SHA256", "SHA384", "SHA512", "MD5")]
    public string Algorithm { get; set; } = "SHA256";

    protected override void ProcessRecord()
    {
        if (InputStream is not null)
        {
            WriteObject(new FileHashInfo(Algorithm.ToUpperInvariant(), Hash(InputStream), null));
            return;
        }
        bool literal = LiteralPath.Length > 0;
        foreach (string file in (literal ? LiteralPath : Path).SelectMany(p => FileSource.Resolve(this, p, literal)))
        {
            if (Directory.Exists(file))
            {
                continue; // pwsh passes over folders in silence, so that wildcards can be used
            }
            try
            {
                using FileStream stream = File.OpenRead(file);
                WriteObject(new FileHashInfo(Algorithm.ToUpperInvariant(), Hash(stream), file));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                ErrorCategory category = e is FileNotFoundException ? ErrorCategory.ObjectNotFound : ErrorCategory.ReadError;
                WriteError(new ErrorRecord(e, e is FileNotFoundException ? "FileNotFound" : "FileReadError", category, file));
            }
        }
    }

#pragma warning disable CA5350, CA5351 // The user names the algorithm, often because a published checksum was made with it.
    private string Hash(Stream stream) => Convert.ToHexString(Algorithm.ToUpperInvariant() switch
    {
        "SHA1" => SHA1.HashData(stream),
        "SHA384" => SHA384.HashData(stream),
        "SHA512" => SHA512.HashData(stream),
        "MD5" => MD5.HashData(stream),
        _ => SHA256.HashData(stream),
    });
#pragma warning restore CA5350, CA5351
}

/// <summary>New-TemporaryFile.</summary>
[Cmdlet(VerbsCommon.New, "TemporaryFile", SupportsShouldProcess = true)]
[OutputType(typeof(FileInfo))]
public sealed class NewTemporaryFileCommand : PSCmdlet
{
    protected override void EndProcessing()
    {
        if (ShouldProcess(System.IO.Path.GetTempPath()))
        {
            WriteObject(new FileInfo(System.IO.Path.GetTempFileName()));
        }
    }
}

/// <summary>Get-Culture.</summary>
[Cmdlet(VerbsCommon.Get, "Culture", DefaultParameterSetName = "CurrentCulture")]
[OutputType(typeof(CultureInfo))]
public sealed class GetCultureCommand : PSCmdlet
{
    [Parameter(Position = 0, ParameterSetName = "Name", ValueFromPipeline = true)]
    public string[]? Name { get; set; }

    [Parameter(ParameterSetName = "ListAvailable")]
    public SwitchParameter ListAvailable { get; set; }

    protected override void ProcessRecord()
    {
        if (ListAvailable)
        {
            WriteObject(CultureInfo.GetCultures(CultureTypes.AllCultures), enumerateCollection: true);
            return;
        }
        foreach (string? name in Name ?? [null!])
        {
            try
            {
                WriteObject(name is null ? Host.CurrentCulture : CultureInfo.GetCultureInfo(name));
            }
            catch (CultureNotFoundException e)
            {
                WriteError(new ErrorRecord(e, "ItemNotFoundException", ErrorCategory.ObjectNotFound, name));
            }
        }
    }
}

/// <summary>Get-UICulture.</summary>
[Cmdlet(VerbsCommon.Get, "UICulture")]
[OutputType(typeof(CultureInfo))]
public sealed class GetUICultureCommand : PSCmdlet
{
    protected override void ProcessRecord() => WriteObject(Host.CurrentUICulture);
}

/// <summary>Get-Uptime of the host.</summary>
[Cmdlet(VerbsCommon.Get, "Uptime")]
[OutputType(typeof(TimeSpan), typeof(DateTime))]
public sealed class GetUptimeCommand : PSCmdlet
{
    [Parameter]
    public SwitchParameter Since { get; set; }

    protected override void ProcessRecord()
    {
        TimeSpan uptime = TimeSpan.FromSeconds(Environment.TickCount64 / 1000);
        WriteObject(Since ? DateTime.Now - uptime : uptime);
    }
}

/// <summary>Add-Type for types in assemblies. Compiling C# needs a compiler, which this shell does not carry; it says so.</summary>
[Cmdlet(VerbsCommon.Add, "Type", DefaultParameterSetName = "FromPath")]
public sealed class AddTypeCommand : PSCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "FromSource")]
    public string? TypeDefinition { get; set; }

    [Parameter(Mandatory = true, Position = 0, ParameterSetName = "FromPath")]
    public string[] Path { get; set; } = [];

    [Alias("PSPath", "LP")]
    [Parameter(Mandatory = true, ParameterSetName = "FromLiteralPath")]
    public string[] LiteralPath { get; set; } = [];

    [Alias("AN")]
    [Parameter(Mandatory = true, ParameterSetName = "FromAssemblyName")]
    public string[] AssemblyName { get; set; } = [];

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void EndProcessing()
    {
        if (TypeDefinition is not null)
        {
            ThrowTerminatingError(new ErrorRecord(
                new PSNotSupportedException("This shell has no C# compiler. Use a PowerShell class, an assembly (-Path), or run the script in pwsh."),
                "CompilerNotAvailable", ErrorCategory.NotInstalled, null));
        }
        bool literal = LiteralPath.Length > 0;
        var assemblies = (literal ? LiteralPath : Path).SelectMany(p => FileSource.Resolve(this, p, literal)).Select(System.Reflection.Assembly.LoadFrom)
            .Concat(AssemblyName.Select(n => System.Reflection.Assembly.Load(new System.Reflection.AssemblyName(n)))).ToList();
        if (PassThru)
        {
            WriteObject(assemblies.SelectMany(a => a.GetExportedTypes()), enumerateCollection: true);
        }
    }
}
