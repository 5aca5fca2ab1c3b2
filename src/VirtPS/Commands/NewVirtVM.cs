using System.Collections;
using System.Management.Automation;
using System.Text.Json.Nodes;
using VirtPS.Client;
using VirtPS.Completion;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;
using VirtPS.Transformations;

namespace VirtPS.Commands;

/// <summary>New-VirtVM: makes a VM, switched off. Without a kernel or image it starts the embedded guest, ringlab.</summary>
[Cmdlet(VerbsCommon.New, "VirtVM", SupportsShouldProcess = true, DefaultParameterSetName = "Kernel")]
[OutputType(typeof(VirtualMachine))]
public sealed class NewVirtVM : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    public string Name { get; set; } = "";

    /// <summary>A Linux bzImage, an ELF kernel with a PVH note, or a Multiboot kernel.</summary>
    [Parameter(ParameterSetName = "Kernel", ValueFromPipelineByPropertyName = true)]
    public string? Kernel { get; set; }

    [Parameter(ParameterSetName = "Kernel", ValueFromPipelineByPropertyName = true)]
    public string? Initrd { get; set; }

    [Parameter(ValueFromPipelineByPropertyName = true)]
    public string CommandLine { get; set; } = "";

    /// <summary>How the kernel file is to be started; Auto looks at it.</summary>
    [Parameter(ParameterSetName = "Kernel", ValueFromPipelineByPropertyName = true)]
    public BootKind BootKind { get; set; } = BootKind.Auto;

    /// <summary>Multiboot modules: a path, then optionally a space and the module's string.</summary>
    [Parameter(ParameterSetName = "Kernel")]
    public string[] Module { get; set; } = [];

    /// <summary>A boot sector: loaded at 0x7C00 and entered in real mode.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "BootSector")]
    public string BootSector { get; set; } = "";

    /// <summary>A flat binary, loaded and entered at -LoadAddress.</summary>
    [Parameter(Mandatory = true, ParameterSetName = "Flat")]
    public string FlatBinary { get; set; } = "";

    [Parameter(ParameterSetName = "Flat")]
    public ulong LoadAddress { get; set; } = 0x7C00;

    [Parameter(ParameterSetName = "Flat")]
    public FlatEntryMode EntryMode { get; set; } = FlatEntryMode.Real16;

    /// <summary>RAM in bytes.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [Alias("MemoryStartupBytes")]
    [SizeTransformation]
    public ulong Memory { get; set; } = 512ul << 20;

    [Parameter(ValueFromPipelineByPropertyName = true)]
    public int ProcessorCount { get; set; } = 1;

    /// <summary>Full, Para, Hardware or a third party's; without it the best one that this host can run.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    [ArgumentCompleter(typeof(StrategyCompleter))]
    public string? Strategy { get; set; }

    [Parameter]
    public Hashtable StrategyOption { get; set; } = [];

    /// <summary>What the guest is told of being virtual; without it what the strategy does by default.</summary>
    [Parameter(ValueFromPipelineByPropertyName = true)]
    public Enlightenment? Enlightenment { get; set; }

    [Parameter]
    public GuestResetAction OnReset { get; set; } = GuestResetAction.Restart;

    [Parameter]
    public GuestResetAction OnTripleFault { get; set; } = GuestResetAction.Stop;

    /// <summary>Devices beyond the platform's own: hashtables with Model, optionally Name, and the model's properties.</summary>
    [Parameter]
    public Hashtable[] Device { get; set; } = [];

    /// <summary>Raw disk images, each a disk of its own, in this order.</summary>
    [Parameter]
    public string[] Disk { get; set; } = [];

    [Parameter]
    public string Notes { get; set; } = "";

    protected override void ProcessRecord() => PerRecord(Name, () =>
    {
        if (!ShouldProcess(Name, "New-VirtVM"))
            return;
        WriteObject(Await(async token => await VirtHost.CreateAsync(await SpecificationAsync(token).ConfigureAwait(false), token).ConfigureAwait(false)));
    });

    private async Task<VmSpecification> SpecificationAsync(CancellationToken token)
    {
        string strategy = Strategy ?? await BestStrategyAsync(token).ConfigureAwait(false);
        return Specification(strategy, [.. Device.Select(DeviceSpecification.FromHashtable), .. Disk.Select((path, i) => DescribeDisk(strategy, path, i))]);
    }

    private VmSpecification Specification(string strategy, JsonObject[] devices) => new()
    {
        Name = Name,
        Notes = Notes,
        Memory = Memory,
        ProcessorCount = ProcessorCount,
        Strategy = strategy,
        StrategyOptions = StrategyOptionTable.Merge(StrategyOption, null, Enlightenment)!,
        OnReset = OnReset,
        OnTripleFault = OnTripleFault,
        Boot = Boot(),
        Devices = devices,
    };

    private JsonObject DescribeDisk(string strategy, string path, int index)
    {
        JsonObject spec = VirtHost.DescribeDisk(strategy, FullPath(path), readOnly: false);
        spec["name"] = $"disk{index}";
        return spec;
    }

    private async Task<string> BestStrategyAsync(CancellationToken token)
    {
        IReadOnlyList<VirtStrategy> all = await VirtHost.GetStrategiesAsync(probe: true, token).ConfigureAwait(false);
        return all.Where(s => s.IsSupported == true).MaxBy(s => s.Preference)?.Name
            ?? throw new Sdk.VirtException(ErrorIds.StrategyUnavailable, "No strategy can run on this host.", "Get-VirtStrategy says why.");
    }

    private BootConfiguration Boot() => ParameterSetName switch
    {
        "BootSector" => new BootConfiguration { Kind = BootKind.BootSector, Kernel = FullPath(BootSector), CommandLine = CommandLine },
        "Flat" => new BootConfiguration { Kind = BootKind.Flat, Kernel = FullPath(FlatBinary), LoadAddress = LoadAddress, EntryMode = EntryMode },
        _ when string.IsNullOrEmpty(Kernel) => WithoutKernel(),
        _ => new BootConfiguration
        {
            Kind = BootKind,
            Kernel = FullPath(Kernel),
            Initrd = string.IsNullOrEmpty(Initrd) ? null : FullPath(Initrd),
            CommandLine = CommandLine,
            Modules = [.. Module.Select(FullModulePath)],
        },
    };

    private BootConfiguration WithoutKernel()
    {
        if (!string.IsNullOrEmpty(Initrd) || Module.Length > 0 || BootKind is not (BootKind.Auto or BootKind.Ringlab))
            throw new Sdk.VirtException(ErrorIds.ConfigurationInvalid, "An initrd, modules or a boot kind were given, but no kernel.", "Add -Kernel, or leave them out to start the embedded guest.", Name);
        return new BootConfiguration { Kind = BootKind.Ringlab, CommandLine = CommandLine };
    }

    private string FullModulePath(string module)
    {
        int space = module.IndexOf(' ', StringComparison.Ordinal);
        return space < 0 ? FullPath(module) : FullPath(module[..space]) + module[space..];
    }
}
