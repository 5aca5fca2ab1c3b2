using System.Reflection;

namespace VirtPS.Shell.Commands.Support;

/// <summary>Calls of engine members that are not public. A member that is missing is an error that names it.</summary>
internal static class Internals
{
    private const BindingFlags Members = BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;

    /// <summary>Calls the method whose parameters take these arguments; its exceptions come through unwrapped.</summary>
    public static object? Call(object target, string name, params object?[] arguments)
    {
        for (Type? type = target.GetType(); type is not null; type = type.BaseType)
        {
            foreach (MethodInfo method in type.GetMethods(Members | BindingFlags.DeclaredOnly))
            {
                if (method.Name == name && Accepts(method.GetParameters(), arguments))
                {
                    return method.Invoke(target, BindingFlags.DoNotWrapExceptions, null, arguments, null);
                }
            }
        }
        throw new MissingMethodException($"This PowerShell engine has no {target.GetType().Name}.{name} with these arguments; virtps was built for another version.");
    }

    public static object? Get(object target, string name) => Property(target, name).GetValue(target);

    public static void Set(object target, string name, object? value) => Property(target, name).SetValue(target, value);

    public static object Create(Assembly assembly, string typeName, params object?[] arguments)
    {
        Type type = assembly.GetType(typeName) ?? throw new TypeLoadException($"This PowerShell engine has no {typeName}.");
        ConstructorInfo constructor = type.GetConstructors(Members).FirstOrDefault(c => Accepts(c.GetParameters(), arguments))
            ?? throw new MissingMethodException($"This PowerShell engine has no such constructor of {typeName}.");
        return constructor.Invoke(BindingFlags.DoNotWrapExceptions, null, arguments, null);
    }

    private static PropertyInfo Property(object target, string name)
    {
        for (Type? type = target.GetType(); type is not null; type = type.BaseType)
        {
            if (type.GetProperty(name, Members | BindingFlags.DeclaredOnly) is { } property)
            {
                return property;
            }
        }
        throw new MissingMemberException($"This PowerShell engine has no {target.GetType().Name}.{name}.");
    }

    private static bool Accepts(ParameterInfo[] parameters, object?[] arguments)
    {
        if (parameters.Length != arguments.Length)
        {
            return false;
        }
        for (int i = 0; i < parameters.Length; i++)
        {
            Type type = parameters[i].ParameterType;
            bool fits = arguments[i] is { } value ? type.IsInstanceOfType(value) : !type.IsValueType || Nullable.GetUnderlyingType(type) is not null;
            if (!fits)
            {
                return false;
            }
        }
        return true;
    }
}
