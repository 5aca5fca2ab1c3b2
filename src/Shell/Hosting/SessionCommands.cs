using System.Collections.ObjectModel;
using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;
using VirtPS.Shell.Commands.Support;

namespace VirtPS.Shell.Hosting;

/// <summary>What a session starts with: the bare engine plus this assembly's cmdlets.</summary>
internal static class SessionCommands
{
    public static InitialSessionState CreateState()
    {
        InitialSessionState state = InitialSessionState.CreateDefault2();
        PSSnapInInfo management = Home("Microsoft.PowerShell.Management");
        PSSnapInInfo utility = Home("Microsoft.PowerShell.Utility");
        foreach ((string name, Type type) in Cmdlets())
        {
            var entry = new SessionStateCmdletEntry(name, type, helpFileName: null);
            bool isManagement = type.Namespace!.EndsWith(".Items", StringComparison.Ordinal) || type.Namespace.EndsWith(".Processes", StringComparison.Ordinal);
            Internals.Call(entry, "SetPSSnapIn", isManagement ? management : utility);
            state.Commands.Add(entry);
        }
        return state;
    }

    /// <summary>
    /// The commands answer to the module names they have in pwsh: scripts write Microsoft.PowerShell.Utility\Write-Host, and the engine's own completion
    /// of paths calls Microsoft.PowerShell.Management\Resolve-Path.
    /// </summary>
    private static PSSnapInInfo Home(string name) => (PSSnapInInfo)Internals.Create(
        typeof(PSSnapInInfo).Assembly,
        typeof(PSSnapInInfo).FullName!,
        name, false, AppContext.BaseDirectory, "VirtPS.Shell", "VirtPS.Shell.dll", new Version(7, 0), new Version(7, 0, 0, 0),
        new Collection<string>(), new Collection<string>(), "Commands of the virtps shell", "VirtPS");

    /// <summary>Every cmdlet of this assembly with its name.</summary>
    internal static IEnumerable<(string Name, Type Type)> Cmdlets() =>
        from type in typeof(SessionCommands).Assembly.GetTypes()
        let cmdlet = type.GetCustomAttribute<CmdletAttribute>(inherit: false)
        where cmdlet is not null
        select ($"{cmdlet.VerbName}-{cmdlet.NounName}", type);
}
