using System.Reflection;
using System.Runtime.InteropServices;
using VirtPS.Client.Platform;
using VirtPS.Client.Processes;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client;

/// <content>The host itself.</content>
public sealed partial class VirtHost
{
    /// <summary>Below this a VM's console log and disks soon have no room.</summary>
    private const long LowDiskSpace = 256L << 20;

    /// <summary>What this host is and has, and what of VirtPS is on it.</summary>
    public async Task<VirtHostInfo> GetHostInfoAsync(CancellationToken cancellation = default)
    {
        VmQueryResult all = await GetAsync((VmQuery?)null, cancellation).ConfigureAwait(false);
        (ulong total, ulong available) = HostMemory.Read();
        return new VirtHostInfo
        {
            HostId = HostId,
            Name = Environment.MachineName,
            OperatingSystem = RuntimeInformation.OSDescription,
            Architecture = RuntimeInformation.OSArchitecture.ToString(),
            Processor = ProcessorName() ?? RuntimeInformation.OSArchitecture.ToString(),
            LogicalProcessorCount = Environment.ProcessorCount,
            Memory = total,
            MemoryAvailable = available,
            Path = StorePath,
            Version = BuildVersion,
            ProtocolVersion = ProtocolVersion.Current,
            Worker = FindWorker(out _),
            VMCount = all.Machines.Count,
            RunningVMCount = all.Machines.Count(m => m.WorkerProcessId is not null),
            CapturedAt = DateTimeOffset.Now,
        };
    }

    /// <summary>Checks of the host, each as it is done.</summary>
    public async IAsyncEnumerable<VirtHostTest> TestHostAsync([System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancellation = default)
    {
        yield return TestPlatform();
        string? worker = FindWorker(out VirtException? noWorker);
        yield return worker is not null ? Passed("Worker", worker) : Failed("Worker", noWorker!);
        yield return TestStore();
        yield return TestSocketFolder();
        VmQueryResult all = await GetAsync((VmQuery?)null, cancellation).ConfigureAwait(false);
        foreach (VirtException unreadable in all.Errors)
            yield return Failed("Virtual machines", unreadable);
        foreach (VirtualMachine silent in all.Machines.Where(m => m.WorkerProcessId is not null && m.EngineTier is null && m.State != VmState.Starting))
            yield return new VirtHostTest { Name = "Virtual machines", Result = HostTestResult.Warning, Detail = $"{silent.Name}: {silent.StatusReason}", RecommendedAction = "Stop-VirtVM -TurnOff ends a worker that does not answer." };
        yield return Passed("Virtual machines", $"{all.Machines.Count} in the store, {all.Machines.Count(m => m.WorkerProcessId is not null)} with a worker.");
        foreach (VirtPluginInfo plugin in (await GetPluginsAsync(cancellation).ConfigureAwait(false)).Where(p => p.Status != PluginStatus.Ready))
            yield return new VirtHostTest { Name = $"Plugin {plugin.Id}", Result = HostTestResult.Warning, Detail = plugin.StatusReason, RecommendedAction = "It is not loaded. Get-VirtPlugin shows where it is." };
        foreach (VirtStrategy strategy in await GetStrategiesAsync(probe: true, cancellation).ConfigureAwait(false))
        {
            yield return new VirtHostTest
            {
                Name = $"Strategy {strategy.Name}",
                Result = strategy.IsSupported == true ? HostTestResult.Pass : strategy.IsSupported == false ? HostTestResult.Warning : HostTestResult.Fail,
                Detail = strategy.Reason,
                RecommendedAction = strategy.RecommendedAction,
            };
        }
    }

    internal static string BuildVersion =>
        typeof(VirtHost).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion.Split('+')[0] ?? "0.0.0";

    private string? FindWorker(out VirtException? error)
    {
        error = null;
        try
        {
            return string.Join(' ', WorkerLocator.Find(_options));
        }
        catch (VirtException e)
        {
            error = e;
            return null;
        }
    }

    private static VirtHostTest TestPlatform()
    {
        bool proven = OperatingSystem.IsLinux() && RuntimeInformation.OSArchitecture == Architecture.X64;
        string host = $"{RuntimeInformation.OSDescription}, {RuntimeInformation.OSArchitecture}";
        return proven
            ? Passed("Platform", host)
            : new VirtHostTest { Name = "Platform", Result = HostTestResult.Warning, Detail = $"{host}: VirtPS is unproven here; Linux x64 is where it is tested.", RecommendedAction = null };
    }

    private VirtHostTest TestStore()
    {
        try
        {
            Directory.CreateDirectory(StorePath);
            string probe = Path.Combine(StorePath, $".test-{Guid.NewGuid():N}");
            AtomicFile.Write(probe, "VirtPS"u8);
            File.Delete(probe);
            long free = new DriveInfo(StorePath).AvailableFreeSpace;
            return free >= LowDiskSpace
                ? Passed("Store", $"{StorePath}: writable, {free >> 20} MiB free.")
                : new VirtHostTest { Name = "Store", Result = HostTestResult.Warning, Detail = $"{StorePath}: only {free >> 20} MiB free.", RecommendedAction = "Make room on the disk." };
        }
        catch (VirtException e)
        {
            return Failed("Store", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new VirtHostTest { Name = "Store", Result = HostTestResult.Fail, Detail = $"{StorePath}: {e.Message}", RecommendedAction = "Set VIRTPS_HOME to a folder that you may write in." };
        }
    }

    private static VirtHostTest TestSocketFolder()
    {
        string socket = StorePaths.SocketFor(Guid.NewGuid());
        try
        {
            StorePaths.EnsureRuntimeFolder(socket);
            return Passed("Sockets", OperatingSystem.IsWindows() ? "named pipes" : Path.GetDirectoryName(socket)!);
        }
        catch (VirtException e)
        {
            return Failed("Sockets", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new VirtHostTest { Name = "Sockets", Result = HostTestResult.Fail, Detail = e.Message, RecommendedAction = "Set XDG_RUNTIME_DIR to a private folder." };
        }
    }

    private static VirtHostTest Passed(string name, string detail) => new() { Name = name, Result = HostTestResult.Pass, Detail = detail };

    private static VirtHostTest Failed(string name, VirtException e) => new() { Name = name, Result = HostTestResult.Fail, Detail = e.Message, RecommendedAction = e.RecommendedAction };

    private static string? ProcessorName()
    {
        if (!OperatingSystem.IsLinux())
            return Environment.GetEnvironmentVariable("PROCESSOR_IDENTIFIER");
        string? line = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal));
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }
}
