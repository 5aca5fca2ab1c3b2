using System.Text;
using VirtPS.Sdk.Memory;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Engine.Boot;

/// <summary>A file for a platform that loads its guest itself.</summary>
internal class PlatformFile(GuestImage image) : IBootFile
{
    public string Name => image.Name;

    public ulong Length => image.Length;

    public void CopyTo(GuestMemory memory, ulong offset, ulong gpa, ulong length) => image.CopyTo(memory, offset, gpa, length, "content");
}

/// <summary>An ELF kernel for a platform that loads its guest itself; of a bzImage the one inside it.</summary>
internal sealed class PlatformKernel : PlatformFile, IKernelImage, IDisposable
{
    private readonly ElfImage _elf;
    private readonly GuestImage _image;

    private PlatformKernel(GuestImage image) : base(image)
    {
        _image = image;
        _elf = ElfImage.Read(image);
        Segments = [.. _elf.Segments.Select(s => new KernelSegment(s.Offset, s.FileSize, s.Virtual, s.Physical, s.MemorySize))];
    }

    public ulong Entry => _elf.Entry;

    public IReadOnlyList<KernelSegment> Segments { get; }

    public byte[]? FindNote(string owner, uint type) => _elf.FindNote(Encoding.ASCII.GetBytes(owner), type);

    /// <summary>Reads the headers of <paramref name="image"/>, which must live as long as the result.</summary>
    public static PlatformKernel Read(GuestImage image) =>
        new(LinuxHeader.Recognises(image.ReadHeader(LinuxHeader.RecognisedBy)) ? KernelPayload.Extract(image) : image);

    public void Dispose() => _image.Dispose();
}
