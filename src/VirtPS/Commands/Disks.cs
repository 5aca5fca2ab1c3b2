using System.Management.Automation;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;
using VirtPS.Transformations;

namespace VirtPS.Commands;

/// <summary>New-VirtDisk: makes a raw disk image, which takes room only as it is written.</summary>
[Cmdlet(VerbsCommon.New, "VirtDisk", SupportsShouldProcess = true)]
[OutputType(typeof(VirtDisk))]
public sealed class NewVirtDisk : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string[] Path { get; set; } = [];

    /// <summary>Bytes.</summary>
    [Parameter(Mandatory = true, Position = 1, ValueFromPipelineByPropertyName = true)]
    [Alias("SizeBytes")]
    [SizeTransformation]
    public ulong Size { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in Path)
        {
            PerRecord(path, () =>
            {
                string full = FullPath(path);
                if (ShouldProcess(full, "New-VirtDisk"))
                    WriteObject(Await(token => VirtHost.CreateDiskAsync(full, Size, token)));
            });
        }
    }
}

/// <summary>Get-VirtDisk: a disk image's size, the room it takes, and who uses it.</summary>
[Cmdlet(VerbsCommon.Get, "VirtDisk")]
[OutputType(typeof(VirtDisk))]
public sealed class GetVirtDisk : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    [Alias("FullName")]
    public string[] Path { get; set; } = [];

    protected override void ProcessRecord()
    {
        foreach (string path in Path)
            PerRecord(path, () => WriteObject(Await(token => VirtHost.GetDiskAsync(FullPath(path), token))));
    }
}

/// <summary>Resize-VirtDisk: gives a disk image another size.</summary>
[Cmdlet(VerbsCommon.Resize, "VirtDisk", SupportsShouldProcess = true, ConfirmImpact = ConfirmImpact.Medium)]
[OutputType(typeof(VirtDisk))]
public sealed class ResizeVirtDisk : VirtCmdlet
{
    [Parameter(Mandatory = true, Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    [ValidateNotNullOrEmpty]
    public string[] Path { get; set; } = [];

    /// <summary>Bytes.</summary>
    [Parameter(Mandatory = true, Position = 1)]
    [Alias("SizeBytes")]
    [SizeTransformation]
    public ulong Size { get; set; }

    /// <summary>Allow a smaller size: what lies behind it is lost.</summary>
    [Parameter]
    public SwitchParameter Shrink { get; set; }

    [Parameter]
    public SwitchParameter PassThru { get; set; }

    protected override void ProcessRecord()
    {
        foreach (string path in Path)
        {
            PerRecord(path, () =>
            {
                string full = FullPath(path);
                if (!ShouldProcess(full, $"Resize to {Size} bytes"))
                    return;
                VirtDisk disk = Await(token => VirtHost.ResizeDiskAsync(full, Size, Shrink, token));
                if (PassThru)
                    WriteObject(disk);
            });
        }
    }
}
