using System.Text.Json;
using VirtPS.Client;
using VirtPS.Client.Protocol;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;
using VirtPS.Worker.Hosting;
using VirtPS.Worker.Machines;
using VirtPS.Worker.Server;

namespace VirtPS.Worker;

/// <summary>The worker's course, from its command line to its exit code.</summary>
internal static class WorkerProgram
{
    private static readonly TimeSpan DrainPatience = TimeSpan.FromSeconds(2);

    private const int Success = 0, Failure = 1, Misuse = 2;

    public static int Run(IReadOnlyList<string> arguments, IWorkerMachineFactory factory)
    {
        WorkerOptions options;
        try
        {
            options = WorkerOptions.Parse(arguments);
        }
        catch (VirtException e)
        {
            System.Console.Error.WriteLine(e.Message);
            return Misuse;
        }

        return options.Probe ? Probe(options, factory) : Host(options, factory);
    }

    private static int Probe(WorkerOptions options, IWorkerMachineFactory factory)
    {
        IReadOnlyList<ProbedStrategy> strategies = factory.Probe(NullLog.Instance, options);
        using Stream output = System.Console.OpenStandardOutput();
        JsonSerializer.Serialize(output, strategies, ProbeJson.Default.IReadOnlyListProbedStrategy);
        return Success;
    }

    private static int Host(WorkerOptions options, IWorkerMachineFactory factory)
    {
        // Where software strategies keep translations for the next run.
        AppContext.SetData(Emulation.SoftwareOptions.StoreFolderData, Path.Combine(Path.GetFullPath(options.StorePath), "translations"));
        factory.Prepare(options);
        var terminated = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        using IDisposable signals = ProcessSetup.Detach(() => terminated.TrySetResult());
        using Stream report = ProcessSetup.TakeReportPipe();
        VmRun run;
        try
        {
            run = VmRun.Begin(options);
        }
        catch (VirtException e)
        {
            Report(report, new ReadyReport { Error = WireError.From(e) });
            return Failure;
        }

        using (run)
        {
            ProcessSetup.RedirectStandardDescriptors(run.Log.Handle, report);
            AppDomain.CurrentDomain.UnhandledException += (_, e) => RecordCrash(run, e.ExceptionObject);
            TaskScheduler.UnobservedTaskException += (_, e) => run.Log.Write(LogLevel.Warning, $"A task failed unnoticed: {e.Exception}");
            return Host(run, options, factory, report, terminated.Task);
        }
    }

    private static int Host(VmRun run, WorkerOptions options, IWorkerMachineFactory factory, Stream report, Task terminated)
    {
        WorkerServer? server = null;
        // Finding and loading plugins takes as long as all else here.
        run.BeginMaking(factory, options);
        try
        {
            StorePaths.EnsureRuntimeFolder(run.Socket);
            server = new WorkerServer(run);
            run.RecordStart();
        }
        catch (Exception e) when (e is VirtException or IOException or UnauthorizedAccessException or System.Net.Sockets.SocketException)
        {
            server?.Dispose();
            Report(report, new ReadyReport { Error = ToWire(e) });
            return Failure;
        }

        using (server)
        {
            run.Log.Write(LogLevel.Information, $"Worker {VirtHost.BuildVersion}, process {Environment.ProcessId}, starts '{run.Configuration.Name}'.");
            MachineEnd end = PowerOnAndWait(run, report, terminated);
            run.CompleteStreams();
            run.Log.Write(LogLevel.Information, $"Ended: {end.State}: {end.Reason}");
            run.RecordEnd(end);
            // Nothing more is written in the VM's folder. Whoever still reads does not keep the next start waiting.
            run.ReleaseLock();
            server.Drain(DrainPatience);
        }

        return Success;
    }

    private static MachineEnd PowerOnAndWait(VmRun run, Stream report, Task terminated)
    {
        try
        {
            run.PowerOn();
        }
        catch (Exception e)
        {
            run.Log.Write(LogLevel.Error, $"Not started: {e}");
            run.NotStarted(e.Message);
            Report(report, new ReadyReport { Error = ToWire(e) });
            return new MachineEnd(VmState.Off, $"The last start failed: {e.Message}", null);
        }

        Report(report, new ReadyReport { Status = run.GetStatus() });
        TimeSpan age = DateTime.Now - System.Diagnostics.Process.GetCurrentProcess().StartTime;
        run.Log.Write(LogLevel.Information, $"Ready {age.TotalMilliseconds:0} ms after the process began, with {Environment.CpuUsage.TotalTime.TotalMilliseconds:0} ms of processor time.");
        Task<MachineEnd> completion = run.Machine!.Completion;
        if (Task.WaitAny(completion, terminated) == 1)
            run.Machine.PowerOff("Turned off: the worker was asked to end (SIGTERM).");
        return completion.GetAwaiter().GetResult();
    }

    /// <summary>The starter may be gone; then nobody wants to know.</summary>
    private static void Report(Stream pipe, ReadyReport report)
    {
        try
        {
            pipe.Write(Handshake.ToLine(HandshakeJson.Write(report)));
            pipe.Dispose();
        }
        catch (IOException)
        {
            // See above.
        }
    }

    private static WireError ToWire(Exception e) => e is VirtException known
        ? WireError.From(known)
        : new WireError(ErrorIds.WorkerStartFailed, e.Message, "See the VM's worker.log.", null);

    /// <summary>A defect of ours ends the process; what is known of it is kept first.</summary>
    private static void RecordCrash(VmRun run, object exception)
    {
        run.Log.Write(LogLevel.Error, $"Unhandled: {exception}");
        string reason = exception is Exception e ? $"The worker failed: {e.GetType().Name}: {e.Message}" : "The worker failed.";
        run.RecordEnd(new MachineEnd(VmState.Crashed, reason, null));
        if (!OperatingSystem.IsWindows())
            File.Delete(run.Socket);
    }
}
