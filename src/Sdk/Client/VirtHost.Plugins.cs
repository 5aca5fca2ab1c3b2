using System.Text.Json;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Plugins;

namespace VirtPS.Client;

/// <content>Plugins, and what they bring.</content>
public sealed partial class VirtHost
{
    private static readonly TimeSpan ProbeTimeout = TimeSpan.FromSeconds(20);

    private readonly Lock _probeGate = new();
    private Task<IReadOnlyList<ProbedStrategy>>? _probe;

    /// <summary>Plugins by their manifests. A folder that cannot be read is one with status Broken.</summary>
    public Task<IReadOnlyList<VirtPluginInfo>> GetPluginsAsync(CancellationToken cancellation = default) => Task.Run(Plugins.Describe, cancellation);

    /// <summary>Records the hash of every file in a plugin's folder, so that it may be loaded. Errors: PluginNotFound, PluginLoadFailed.</summary>
    public Task<VirtPluginInfo> RegisterPluginAsync(string path, CancellationToken cancellation = default) => Task.Run(
        () =>
        {
            string folder = Path.GetFullPath(path);
            if (Path.GetFileName(folder) == PluginManifest.FileName)
                folder = Path.GetDirectoryName(folder)!;
            folder = Path.TrimEndingDirectorySeparator(folder);
            if (!File.Exists(Path.Combine(folder, PluginManifest.FileName)))
                throw new VirtException(ErrorIds.PluginNotFound, $"'{folder}' holds no {PluginManifest.FileName}.", "Give the folder of a plugin.", folder);
            PluginRegistration registration = Plugins.Registry.Register(folder);
            ForgetProbe();
            return Plugins.Describe().First(p => p.Path == registration.Folder);
        },
        cancellation);

    /// <summary>Forgets a plugin's registration. <paramref name="pluginId"/>: its id, or its folder. Errors: PluginNotFound.</summary>
    public Task UnregisterPluginAsync(string pluginId, CancellationToken cancellation = default) => Task.Run(
        () =>
        {
            List<PluginRegistration> matching = [.. Plugins.Registry.Read().Where(r => r.Id == pluginId || r.Folder == pluginId)];
            if (matching.Count == 0)
                throw new VirtException(ErrorIds.PluginNotFound, $"No plugin '{pluginId}' is registered.", "Get-VirtPlugin lists the plugins; those of the module need no registration.", pluginId);
            foreach (PluginRegistration registration in matching)
                Plugins.Registry.Unregister(registration.Folder);
            ForgetProbe();
        },
        cancellation);

    /// <summary>Strategies. With <paramref name="probe"/> a short-lived worker is asked what this host can run (once per <see cref="VirtHost"/>; cached).</summary>
    public async Task<IReadOnlyList<VirtStrategy>> GetStrategiesAsync(bool probe = true, CancellationToken cancellation = default)
    {
        IReadOnlyList<VirtStrategy> known = await Task.Run(Plugins.Strategies, cancellation).ConfigureAwait(false);
        if (!probe || known.Count == 0)
            return known;
        IReadOnlyList<ProbedStrategy> probed;
        try
        {
            probed = await ProbeAsync(cancellation).ConfigureAwait(false);
        }
        catch (VirtException e) when (e.ErrorId is ErrorIds.WorkerNotFound or ErrorIds.WorkerStartFailed)
        {
            return [.. known.Select(s => s with { Reason = e.Message, RecommendedAction = e.RecommendedAction })];
        }

        return [.. known.Select(s => Merge(s, probed.FirstOrDefault(p => p.Name.Equals(s.Name, StringComparison.OrdinalIgnoreCase)))).OrderByDescending(s => s.Preference)];
    }

    public Task<IReadOnlyList<VirtDeviceModel>> GetDeviceModelsAsync(CancellationToken cancellation = default) => Task.Run(Plugins.Models, cancellation);

    /// <summary>What is supported changes only with the host and the plugins, so one worker's answer holds for this object's life; a failure is not kept.</summary>
    private async Task<IReadOnlyList<ProbedStrategy>> ProbeAsync(CancellationToken cancellation)
    {
        Task<IReadOnlyList<ProbedStrategy>> probe;
        lock (_probeGate)
        {
            if (_probe is null or { IsFaulted: true })
                _probe = RunProbeAsync();
            probe = _probe;
        }

        return await probe.WaitAsync(cancellation).ConfigureAwait(false);
    }

    private void ForgetProbe()
    {
        lock (_probeGate)
            _probe = null;
    }

    private async Task<IReadOnlyList<ProbedStrategy>> RunProbeAsync()
    {
        // Others may be waiting for the same answer, so one caller's cancellation does not end it; its timeout does.
        string json = await WorkerLauncher.RunAsync(WorkerLocator.Find(_options), WorkerArguments("--probe"), wholeOutput: true, ProbeTimeout, CancellationToken.None).ConfigureAwait(false);
        try
        {
            return JsonSerializer.Deserialize(json, ProbeJson.Default.IReadOnlyListProbedStrategy) ?? [];
        }
        catch (JsonException e)
        {
            throw new VirtException(ErrorIds.WorkerStartFailed, $"The worker was asked for strategies and wrote: {json.Trim()}", null, null, e);
        }
    }

    private static VirtStrategy Merge(VirtStrategy known, ProbedStrategy? probed) => probed is null
        ? known with { IsSupported = false, Reason = "The worker did not find it." }
        : known with
        {
            IsSupported = probed.IsSupported,
            Reason = probed.Reason,
            RecommendedAction = probed.RecommendedAction,
            RingFidelity = probed.Info?.RingFidelity,
            Preference = probed.Info?.Preference ?? 0,
            RingModel = probed.Info?.RingModel ?? [],
        };
}
