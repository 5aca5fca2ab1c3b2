namespace Microsoft.PowerShell.Commands;

/// <summary>The exception of a Write-Error message.</summary>
public sealed class WriteErrorException : SystemException
{
    public WriteErrorException()
    {
    }

    public WriteErrorException(string message)
        : base(message)
    {
    }

    public WriteErrorException(string message, Exception innerException)
        : base(message, innerException)
    {
    }
}
