namespace VirtPS.Sdk;

public enum LogLevel
{
    Debug,
    Information,
    Warning,
    Error,
}

/// <summary>A component's diary. Thread-safe, never blocks for long, never throws; implementations limit the rate per component.</summary>
public interface ILog
{
    bool IsEnabled(LogLevel level);

    void Write(LogLevel level, string message);
}

/// <summary>Swallows everything; for tests and tools that have no diary.</summary>
public sealed class NullLog : ILog
{
    public static readonly NullLog Instance = new();

    public bool IsEnabled(LogLevel level) => false;

    public void Write(LogLevel level, string message)
    {
    }
}
