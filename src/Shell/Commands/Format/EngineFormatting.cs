using System.Collections;
using System.Management.Automation;
using System.Reflection;
using System.Runtime.ExceptionServices;
using Microsoft.PowerShell.Commands.Internal.Format;

namespace VirtPS.Shell.Commands.Format;

/// <summary>
/// The engine's formatting system, as far as its public base classes need an inner command that only the engine's own assemblies can name.
/// </summary>
internal static class EngineFormatting
{
    private const string Namespace = "Microsoft.PowerShell.Commands.Internal.Format.";
    private const BindingFlags Members = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    /// <summary>Gives a Format-* cmdlet its inner command for a shape (Table, List, Wide, Complex).</summary>
    public static object UseShape(FrontEndCommandBase command, string shape)
    {
        object inner = Create("InnerFormatShapeCommand", Enum.Parse(Type("FormatShape"), shape));
        Field(typeof(FrontEndCommandBase), "implementation").SetValue(command, inner);
        return inner;
    }

    /// <summary>Gives an Out-* cmdlet an inner command that writes formatted text to <paramref name="writer"/>.</summary>
    public static void UseTextOutput(FrontEndCommandBase command, TextWriter writer, int columns)
    {
        object inner = Create("OutputManagerInner");
        Field(typeof(FrontEndCommandBase), "implementation").SetValue(command, inner);
        object lines = Create("TextWriterLineOutput", writer, columns);
        inner.GetType().GetProperty("LineOutput", Members)!.SetValue(inner, lines);
    }

    /// <summary>Parameters of Format-Wide and Format-Custom, whose base class offers no way to pass them.</summary>
    public static object CreateParameters(PSCmdlet command, object[]? property, string definition, object? groupBy, string? view, bool force, object shapeParameters)
    {
        object parameters = Create("FormattingCommandLineParameters");
        object context = Create("TerminatingErrorContext", command);
        Set(parameters, "forceFormattingAlsoOnOutOfBand", force);
        Set(parameters, "viewName", view);
        Set(parameters, "shapeParameters", shapeParameters);
        if (property is { Length: > 0 })
        {
            Set(parameters, "mshParameterList", Process(definition, property, context));
        }
        if (groupBy is not null)
        {
            var list = (IList)Process("FormatGroupByParameterDefinition", [groupBy], context)!;
            Set(parameters, "groupByParameter", list.Count > 0 ? list[0] : null);
        }
        return parameters;
    }

    /// <summary>Hands parameters to the inner command of a Format-* cmdlet.</summary>
    public static void SetParameters(object inner, object parameters) => Call(inner, "SetCommandLineParameters", parameters);

    /// <summary>Creates one of the formatting system's own objects by its short name.</summary>
    public static object Create(string name, params object?[] arguments)
    {
        try
        {
            return Activator.CreateInstance(Type(name), Members, null, arguments, null)!;
        }
        catch (TargetInvocationException e) when (e.InnerException is not null)
        {
            ExceptionDispatchInfo.Throw(e.InnerException);
            throw;
        }
    }

    /// <summary>Sets a field of one of those objects.</summary>
    public static void Set(object target, string field, object? value) => Field(target.GetType(), field).SetValue(target, value);

    private static object? Process(string definition, object[] property, object context) =>
        Call(Create("ParameterProcessor", Create(definition)), "ProcessParameters", property, context);

    private static object? Call(object target, string method, params object?[] arguments)
    {
        MethodInfo info = target.GetType().GetMethod(method, Members)
            ?? throw new MissingMemberException($"This PowerShell engine has no {target.GetType().Name}.{method}.");
        return info.Invoke(target, BindingFlags.DoNotWrapExceptions, null, arguments, null);
    }

    private static Type Type(string name) =>
        typeof(FrontEndCommandBase).Assembly.GetType(Namespace + name)
        ?? throw new TypeLoadException($"This PowerShell engine has no {name}; virtps was built for another version.");

    private static FieldInfo Field(Type type, string name) =>
        type.GetField(name, Members) ?? throw new MissingMemberException($"This PowerShell engine has no {type.Name}.{name}.");
}
