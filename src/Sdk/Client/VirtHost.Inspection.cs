using VirtPS.Client.Protocol;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>Looking into a running machine.</content>
public sealed partial class VirtHost
{
    private const int MaxMemoryRead = 64 << 20;

    /// <summary>Base64 in JSON: pieces keep both sides' buffers small.</summary>
    private const int MemoryPiece = 256 << 10;

    /// <summary>All registers of one vCPU. Errors: VcpuNotFound.</summary>
    public Task<VirtRegisterSet> GetRegistersAsync(Guid id, int vcpu = 0, CancellationToken cancellation = default) =>
        InvokeAsync<VirtRegisterSet>(id, "be asked for its registers", RpcMethods.GetRegisters, [vcpu], cancellation);

    /// <summary>
    /// Guest memory, at most 64 MiB at once; more than 256 KiB is read in pieces between which the guest goes on. Errors: GuestAddressInvalid names the first address
    /// that has no memory.
    /// </summary>
    public async Task<VirtGuestMemory> ReadGuestMemoryAsync(Guid id, ulong address, int length, GuestAddressSpace space = GuestAddressSpace.Physical, int vcpu = 0, CancellationToken cancellation = default)
    {
        if (length is < 0 or > MaxMemoryRead)
            throw new VirtException(ErrorIds.GuestAddressInvalid, $"{length} bytes cannot be read at once; at most {MaxMemoryRead} can.", "Read in pieces.", length);
        var bytes = new byte[length];
        string name = _store.Load(id).Configuration.Name;
        for (int at = 0; at < length; at += MemoryPiece)
        {
            int n = Math.Min(MemoryPiece, length - at);
            byte[] piece = await InvokeAsync<byte[]>(id, "be asked for its memory", RpcMethods.ReadMemory, [address + (ulong)at, n, space, vcpu], cancellation).ConfigureAwait(false);
            piece.CopyTo(bytes, at);
        }

        return new VirtGuestMemory { VMId = id, VMName = name, AddressSpace = space, Address = address, Bytes = bytes, CapturedAt = DateTimeOffset.Now };
    }

    /// <summary>Instructions from a linear address (null: where the vCPU stands), decoded in the vCPU's present mode.</summary>
    public async Task<IReadOnlyList<VirtDisassemblyLine>> DisassembleAsync(Guid id, ulong? address = null, int count = 16, int vcpu = 0, CancellationToken cancellation = default) =>
        await InvokeAsync<VirtDisassemblyLine[]>(id, "be disassembled", RpcMethods.Disassemble, [address, count, vcpu], cancellation).ConfigureAwait(false);
}
