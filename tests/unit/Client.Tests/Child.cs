using System.Diagnostics;
using VirtPS.Client.Store;
using VirtPS.Sdk;
using VirtPS.Sdk.Machine;

namespace VirtPS.Client.Tests;

/// <summary>What this program does as another process: its last line of output is the result.</summary>
internal static class Child
{
    public static Process Start(params string[] arguments)
    {
        string self = Environment.ProcessPath!;
        var start = new ProcessStartInfo(self) { RedirectStandardOutput = true, RedirectStandardInput = true };
        if (Path.GetFileNameWithoutExtension(self) == "dotnet")
            start.ArgumentList.Add(typeof(Child).Assembly.Location);
        start.ArgumentList.Add("--child");
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        return Process.Start(start)!;
    }

    public static async Task<int> RunAsync(string[] arguments)
    {
        switch (arguments)
        {
            // Takes a lock, says so, holds it until its input ends.
            case ["hold", string path]:
                using (FileLock.TryAcquire(path))
                {
                    Console.WriteLine("held");
                    await Console.In.ReadToEndAsync();
                }

                return 0;

            // Works on one store like a busy shell: creates under a name that all want, then renames and changes notes of one VM many times.
            case ["shell", string store, string module, string id, string me]:
                Console.WriteLine(await WorkAsync(VirtHost.Connect(new VirtHostOptions { StorePath = store, ModulePath = module }), Guid.Parse(id), me));
                return 0;
        }

        return 2;
    }

    private static async Task<string> WorkAsync(VirtHost host, Guid shared, string me)
    {
        int wins = 0;
        for (int i = 0; i < 4; i++)
        {
            try
            {
                await host.CreateAsync(new VmSpecification { Name = $"wanted{i}", Memory = 1 << 20 });
                wins++;
            }
            catch (VirtException e) when (e.ErrorId == ErrorIds.VMNameInUse)
            {
                // Another one was quicker.
            }

            await host.SetAsync(shared, new VmChanges { Notes = $"{me} {i}" });
            await host.RenameAsync(shared, $"shared {me} {i}");
            VirtualMachine seen = await host.GetAsync(shared);
            if (seen.State != VmState.Off || !seen.Name.StartsWith("shared ", StringComparison.Ordinal))
                return "damaged";
        }

        return wins.ToString(System.Globalization.CultureInfo.InvariantCulture);
    }
}
