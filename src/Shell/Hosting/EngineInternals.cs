using System.Management.Automation;
using System.Management.Automation.Runspaces;
using System.Reflection;

namespace VirtPS.Shell.Hosting;

/// <summary>
/// The few members that the engine keeps for its own console host and that have no public counterpart. Everything reached by reflection is
/// here and in Commands/Format, so that an engine update that moves one of them fails in one place, with its name.
/// </summary>
internal static class EngineInternals
{
    private const BindingFlags Members = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    /// <summary>Lets an <c>exit</c> in the next script file end the pipeline and reach the host, instead of only setting $LASTEXITCODE.</summary>
    public static void LetScriptExitReachHost(Runspace runspace)
    {
        object context = Property(runspace.GetType(), "ExecutionContext").GetValue(runspace)!;
        Property(context.GetType(), "ScriptCommandProcessorShouldRethrowExit").SetValue(context, true);
    }

    /// <summary>Marks an object as having come through the error stream, so that Out-Default writes it there.</summary>
    public static void MarkAsError(PSObject error)
    {
        PropertyInfo stream = Property(typeof(PSObject), "WriteStream");
        stream.SetValue(error, Enum.Parse(stream.PropertyType, "Error"));
    }

    private static PropertyInfo Property(Type type, string name)
    {
        for (Type? t = type; t is not null; t = t.BaseType)
        {
            if (t.GetProperty(name, Members | BindingFlags.DeclaredOnly) is { } property)
            {
                return property;
            }
        }
        throw new MissingMemberException($"This PowerShell engine has no {type.Name}.{name}; virtps was built for another version.");
    }
}
