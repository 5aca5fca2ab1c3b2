using VirtPS.Worker;
using VirtPS.Worker.Tests;

// With this first argument the program is a worker whose machine is a stand-in; else it runs the tests.
return args is ["--worker", .. string[] rest]
    ? WorkerProgram.Run(rest, new StandInMachineFactory())
    : await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args);
