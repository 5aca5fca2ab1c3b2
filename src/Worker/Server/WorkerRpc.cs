using System.Text.Json.Nodes;
using StreamJsonRpc;
using VirtPS.Client;
using VirtPS.Client.Protocol;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Rings;
using VirtPS.Worker.Hosting;
using VirtPS.Worker.Inspection;
using VirtPS.Worker.Machines;

namespace VirtPS.Worker.Server;

/// <summary>What can be asked of a running VM, by JSON-RPC. Calls of one connection, and of several, run side by side.</summary>
internal sealed class WorkerRpc(VmRun run)
{
    private static readonly TimeSpan Ring3Interval = TimeSpan.FromMilliseconds(20);

    private readonly MachineInspector _inspector = new(run);
    private readonly HotSpotSampler _sampler = new(run);

    public async Task ServeAsync(Stream connection, CancellationToken stop)
    {
        using JsonRpc rpc = RpcSetup.Create(connection);
        AddMethods(rpc);
        rpc.StartListening();
        await rpc.Completion.WaitAsync(stop).ConfigureAwait(false);
    }

    private IWorkerMachine Machine =>
        run.Machine ?? throw new VirtException(ErrorIds.InvalidVMState, $"VM '{run.Configuration.Name}' is Starting.", "Try again.", run.Configuration.Name);

    private void AddMethods(JsonRpc rpc)
    {
        Add(rpc, RpcMethods.Pause, () => Machine.Pause());
        Add(rpc, RpcMethods.Resume, () => Machine.Resume());
        Add(rpc, RpcMethods.PowerButton, PressPowerButton);
        Add(rpc, RpcMethods.Reset, () => Machine.Reset("Reset by request."));
        Add(rpc, RpcMethods.TurnOff, () => Machine.PowerOff("Turned off."));
        rpc.AddLocalRpcMethod(RpcMethods.WaitOff, (CancellationToken c) => GuardAsync(() => WaitOffAsync(c)));
        rpc.AddLocalRpcMethod(RpcMethods.WaitRing3, (CancellationToken c) => GuardAsync(() => WaitRing3Async(c)));
        rpc.AddLocalRpcMethod(RpcMethods.SetNotes, (string notes) => Guard(() => Done(() => run.Configure(c => c with { Notes = notes }))));
        rpc.AddLocalRpcMethod(RpcMethods.SetName, (string name) => Guard(() => Done(() => run.Configure(c => c with { Name = name }))));
        rpc.AddLocalRpcMethod(RpcMethods.AddDevice, (JsonObject device) => Guard(() => RefuseHotPlug(device["name"]?.ToString())));
        rpc.AddLocalRpcMethod(RpcMethods.RemoveDevice, (string name) => Guard(() => RefuseHotPlug(name)));
        rpc.AddLocalRpcMethod(RpcMethods.GetDevices, () => Guard(GetDevices));
        rpc.AddLocalRpcMethod(RpcMethods.GetRingStates, () => Guard(() => _inspector.GetRingStates(Machine)));
        rpc.AddLocalRpcMethod(RpcMethods.MeasureRing, () => Guard(() => _inspector.MeasureRings(Machine)));
        rpc.AddLocalRpcMethod(RpcMethods.GetHotSpots, (double seconds, int first, CancellationToken c) => GuardAsync(() => _sampler.SampleAsync(Machine, seconds, first, c)));
        rpc.AddLocalRpcMethod(RpcMethods.StepRing, (int vcpu, int count, bool includeSameRing, double seconds) => Guard(() => _inspector.StepRings(Machine, vcpu, count, includeSameRing, seconds)));
        rpc.AddLocalRpcMethod(RpcMethods.GetRegisters, (int vcpu) => Guard(() => _inspector.GetRegisters(Machine, vcpu)));
        rpc.AddLocalRpcMethod(RpcMethods.ReadMemory, (ulong address, int length, GuestAddressSpace space, int vcpu) => Guard(() => _inspector.ReadMemory(Machine, address, length, space, vcpu)));
        rpc.AddLocalRpcMethod(RpcMethods.Disassemble, (ulong? address, int count, int vcpu) => Guard(() => _inspector.Disassemble(Machine, address, count, vcpu)));
        rpc.AddLocalRpcMethod(RpcMethods.SendConsole, (byte[] data, CancellationToken c) => GuardAsync(async () =>
        {
            await run.Console.SendAsync(data, c).ConfigureAwait(false);
            return true;
        }));
    }

    private void PressPowerButton()
    {
        if (!Machine.PressPowerButton())
            throw new VirtException(ErrorIds.InvalidVMState, $"The machine of VM '{run.Configuration.Name}' has no power button.", "Use -TurnOff.", run.Configuration.Name);
    }

    private async Task<bool> WaitOffAsync(CancellationToken cancellation)
    {
        await Machine.Completion.WaitAsync(cancellation).ConfigureAwait(false);
        return true;
    }

    private async Task<bool> WaitRing3Async(CancellationToken cancellation)
    {
        IWorkerMachine machine = Machine;
        while (!run.HasReachedRing3())
        {
            if (machine.Completion.IsCompleted)
                return run.HasReachedRing3();
            await Task.Delay(Ring3Interval, cancellation).ConfigureAwait(false);
        }

        return true;
    }

    private bool RefuseHotPlug(string? name) =>
        throw new VirtException(ErrorIds.InvalidVMState, $"VM '{run.Configuration.Name}' is {Machine.State}: this machine's devices cannot be added or removed while it runs ('{name}').", "Turn it off first (Stop-VirtVM).", name);

    private WireDevice[] GetDevices()
    {
        IReadOnlyList<JsonObject> configured = run.Configuration.Devices;
        IEnumerable<JsonObject> platform = Machine.PlatformDevices.Where(p => !configured.Any(c => (string?)c["name"] == (string?)p["name"]));
        return [.. platform.Select(p => new WireDevice((JsonObject)p.DeepClone(), true)), .. configured.Select(c => new WireDevice((JsonObject)c.DeepClone(), false, Machine.Disks.GetValueOrDefault((string?)c["name"] ?? "")))];
    }

    private static void Add(JsonRpc rpc, string name, Action action) => rpc.AddLocalRpcMethod(name, () => Guard(() => Done(action)));

    private static bool Done(Action action)
    {
        action();
        return true;
    }

    /// <summary>A <see cref="VirtException"/> travels as data; anything else is a defect and travels as JSON-RPC's own error.</summary>
    private static async Task<T> GuardAsync<T>(Func<Task<T>> method)
    {
        try
        {
            return await method().ConfigureAwait(false);
        }
        catch (VirtException e)
        {
            throw ToRpc(e);
        }
    }

    private static T Guard<T>(Func<T> method)
    {
        try
        {
            return method();
        }
        catch (VirtException e)
        {
            throw ToRpc(e);
        }
    }

    private static LocalRpcException ToRpc(VirtException e) => new(e.Message) { ErrorCode = RpcSetup.VirtErrorCode, ErrorData = WireError.From(e) };
}
