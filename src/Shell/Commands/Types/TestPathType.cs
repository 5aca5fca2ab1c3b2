namespace Microsoft.PowerShell.Commands;

/// <summary>What Test-Path looks for. In PowerShell's own namespace, as scripts name it.</summary>
public enum TestPathType
{
    Any,
    Container,
    Leaf,
}
