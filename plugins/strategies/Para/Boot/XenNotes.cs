using System.Buffers.Binary;
using System.Text;
using VirtPS.Sdk;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Strategy.Para.Boot;

/// <summary>What a kernel's Xen notes ask of whoever starts it (public/elfnote.h).</summary>
internal sealed record XenNotes
{
    private const uint EntryNote = 1, HypercallPageNote = 2, VirtBaseNote = 3, PaddrOffsetNote = 4, XenVersionNote = 5, FeaturesNote = 10, ModStartPfnNote = 16;

    /// <summary>Linear address of the first instruction.</summary>
    public required ulong Entry { get; init; }

    /// <summary>Linear address that physical address <see cref="PhysicalOffset"/> is linked at.</summary>
    public required ulong VirtualBase { get; init; }

    public required ulong PhysicalOffset { get; init; }

    /// <summary>Linear address of a page for hypercall stubs; null for kernels that execute SYSCALL themselves.</summary>
    public required ulong? HypercallPage { get; init; }

    /// <summary>The initrd is named by frame and need not be mapped.</summary>
    public required bool InitrdByFrame { get; init; }

    /// <summary>Reads them. Throws <see cref="VirtException"/> <c>ImageInvalid</c> for a kernel that is not made for Xen PV.</summary>
    public static XenNotes Read(IKernelImage kernel)
    {
        ulong? Number(uint type) => kernel.FindNote("Xen", type) switch
        {
            { Length: >= 8 } n => BinaryPrimitives.ReadUInt64LittleEndian(n),
            { Length: >= 4 } n => BinaryPrimitives.ReadUInt32LittleEndian(n),
            _ => null,
        };
        string Text(uint type) => kernel.FindNote("Xen", type) is { } n ? Encoding.ASCII.GetString(n).TrimEnd('\0') : "";
        if (Number(EntryNote) is not { } entry || Number(VirtBaseNote) is not { } virtualBase)
            throw Invalid(kernel, "has no Xen PV notes: it is not made for para-virtualization", "Give a kernel that is (Linux: CONFIG_XEN_PV), or use -Strategy Full.");
        if (Text(XenVersionNote) is { Length: > 0 } version && version != "xen-3.0")
            throw Invalid(kernel, $"is made for '{version}'; this is the interface xen-3.0", "Use a newer kernel.");
        // A feature with an exclamation mark is required of the VMM; only PV features that every Xen offers come so.
        string? required = Text(FeaturesNote).Split('|').FirstOrDefault(f => f.StartsWith('!') && f[1..] is not ("writable_page_tables" or "pae_pgdir_above_4gb"));
        if (required is not null)
            throw Invalid(kernel, $"requires the Xen feature '{required[1..]}', which is not offered", "Use another kernel, or -Strategy Full.");
        return new XenNotes
        {
            Entry = entry,
            VirtualBase = virtualBase,
            PhysicalOffset = Number(PaddrOffsetNote) ?? 0,
            HypercallPage = Number(HypercallPageNote),
            InitrdByFrame = Number(ModStartPfnNote) is > 0,
        };
    }

    public static VirtException Invalid(IBootFile file, string problem, string remedy) => new("ImageInvalid", $"'{file.Name}': {problem}", remedy, file.Name);
}
