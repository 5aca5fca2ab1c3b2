using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;

namespace VirtPS.Shell.Hosting;

/// <summary>What a session starts with: the bare engine plus this assembly's cmdlets.</summary>
internal static class SessionCommands
{
    public static InitialSessionState CreateState()
    {
        InitialSessionState state = InitialSessionState.CreateDefault2();
        foreach ((string name, Type type) in Cmdlets())
        {
            state.Commands.Add(new SessionStateCmdletEntry(name, type, helpFileName: null));
        }
        return state;
    }

    /// <summary>Every cmdlet of this assembly with its name.</summary>
    internal static IEnumerable<(string Name, Type Type)> Cmdlets() =>
        from type in typeof(SessionCommands).Assembly.GetTypes()
        let cmdlet = type.GetCustomAttribute<CmdletAttribute>(inherit: false)
        where cmdlet is not null
        select ($"{cmdlet.VerbName}-{cmdlet.NounName}", type);
}
