using VirtPS.Client.Tests;

return args is ["--child", .. string[] rest]
    ? await Child.RunAsync(rest)
    : await Xunit.Runner.InProc.SystemConsole.ConsoleRunner.Run(args);
