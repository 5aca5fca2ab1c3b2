using System.Management.Automation;
using VirtPS.Client.Images;
using VirtPS.Infrastructure;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtImage: kernels and programs that can be fetched, and those that have been.</summary>
[Cmdlet(VerbsCommon.Get, "VirtImage")]
[OutputType(typeof(VirtImage))]
public sealed class GetVirtImage : VirtCmdlet
{
    [Parameter(Position = 0)]
    [SupportsWildcards]
    public string[] Name { get; set; } = ["*"];

    protected override void ProcessRecord() => Terminating(() =>
        Emit(new ImageStore(VirtHost).List(), Name, i => i.Name, Client.ErrorIds.ImageNotFound, "image"));
}

/// <summary>Save-VirtImage: fetches an image into the store, once; what is there is checked by its hash.</summary>
[Cmdlet(VerbsData.Save, "VirtImage", SupportsShouldProcess = true)]
[OutputType(typeof(VirtImage))]
public sealed class SaveVirtImage : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    public string[] Name { get; set; } = [];

    /// <summary>Fetch again even if it is there.</summary>
    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string name in Name)
        {
            PerRecord(name, () =>
            {
                if (!ShouldProcess(name, "Save-VirtImage"))
                    return;
                VirtImage image = Fetch(name);
                if (PassThru)
                    WriteObject(image);
            });
        }
    }

    // Progress is written by the pipeline's thread only, at most four times a second.
    private VirtImage Fetch(string name)
    {
        var latest = new LatestProgress();
        Task<VirtImage> work = Task.Run(() => new ImageStore(VirtHost).SaveAsync(name, Force, latest, StopToken), StopToken);
        ImageProgress? shown = null;
        while (!((IAsyncResult)work).AsyncWaitHandle.WaitOne(250))
        {
            if (latest.Value is { } now && now != shown)
            {
                WriteProgress(new ProgressRecord(1, $"Fetching {name}", now.Activity) { PercentComplete = now.PercentComplete });
                shown = now;
            }
        }

        if (shown is not null)
            WriteProgress(new ProgressRecord(1, $"Fetching {name}", "Done") { RecordType = ProgressRecordType.Completed });
        return Await(_ => work);
    }

    private sealed class LatestProgress : IProgress<ImageProgress>
    {
        private readonly Lock _gate = new();
        private ImageProgress? _value;

        public ImageProgress? Value
        {
            get
            {
                lock (_gate)
                    return _value;
            }
        }

        public void Report(ImageProgress value)
        {
            lock (_gate)
                _value = value;
        }
    }
}

/// <summary>New-VirtInitrd: builds an initial RAM disk (cpio, newc format), gzip-compressed when the name ends in .gz.</summary>
[Cmdlet(VerbsCommon.New, "VirtInitrd", SupportsShouldProcess = true)]
[OutputType(typeof(FileInfo))]
public sealed class NewVirtInitrd : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0)]
    public string Path { get; set; } = "";

    /// <summary>A static busybox: its commands, an init script that prints GUEST-READY, and a shell.</summary>
    [Parameter]
    public string? Busybox { get; set; }

    /// <summary>Kernel modules that the busybox's init loads first, in this order.</summary>
    [Parameter]
    public string[] Module { get; set; } = [];

    /// <summary>A folder whose content goes into the disk.</summary>
    [Parameter]
    public string? SourcePath { get; set; }

    /// <summary>Text of an /init script that replaces the usual one.</summary>
    [Parameter]
    public string? Init { get; set; }

    [Parameter]
    public SwitchParameter Force { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord() => PerRecord(Path, () =>
    {
        string target = FullPath(Path);
        if (Busybox is null && SourcePath is null && Init is null)
            throw new VirtException(Client.ErrorIds.ConfigurationInvalid, "Nothing was given to put into the disk.", "Give -Busybox, -SourcePath or -Init.", Path);
        if (Module.Length > 0 && Busybox is null)
            throw new VirtException(Client.ErrorIds.ConfigurationInvalid, "Modules were given, but nothing that would load them.", "Add -Busybox, whose init script does.", Path);
        if (File.Exists(target) && !Force)
            throw new VirtException("FileExists", $"'{target}' exists already.", "Use -Force to overwrite it.", target);
        if (!ShouldProcess(target, "New-VirtInitrd"))
            return;
        bool compress = target.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
        Await(token => Build().WriteFileAsync(target, compress, token));
        if (PassThru)
            WriteObject(new FileInfo(target));
    });

    private InitrdBuilder Build()
    {
        InitrdBuilder disk = Busybox is null ? new InitrdBuilder() : BusyboxInitrd.Create(FullPath(Busybox), new BusyboxInitrdOptions { Modules = [.. Module.Select(FullPath)] });
        if (SourcePath is not null)
            disk.AddHostTree("/", FullPath(SourcePath));
        if (Init is not null)
            disk.AddText("/init", Init, (UnixFileMode)0x1ED);
        return disk;
    }
}
