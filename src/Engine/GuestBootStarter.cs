using VirtPS.Engine.Boot;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk;

namespace VirtPS.Engine;

/// <summary>Starts a guest as its <see cref="Sdk.Machine.BootConfiguration"/> says: firmware tables, then the loader for the image.</summary>
/// <param name="embeddedGuest">The image of the embedded default guest; null where the program has none.</param>
/// <param name="embeddedXenGuest">The same for machines whose platform loads its guest itself.</param>
public sealed class GuestBootStarter(Func<ReadOnlyMemory<byte>>? embeddedGuest = null, Func<ReadOnlyMemory<byte>>? embeddedXenGuest = null) : IGuestStarter
{
    private readonly GuestBoot _boot = new();

    public unsafe void Start(GuestStart start)
    {
        if (start.Platform is { } platform)
        {
            GuestBoot.Load(start, platform, embeddedXenGuest);
            return;
        }

        GuestEntry entry = _boot.Load(new BootContext
        {
            Memory = start.Memory,
            Layout = MemoryLayout.ForRam(start.Configuration.Memory),
            Boot = start.Configuration.Boot,
            State = start.Bootstrap,
            VcpuCount = start.VcpuCount,
            EmbeddedGuest = embeddedGuest,
        });
        start.Log.Write(LogLevel.Information, $"{entry.Format}, entered at 0x{entry.EntryPoint:X} in {entry.Mode} mode.");
    }
}
