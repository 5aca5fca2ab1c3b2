namespace VirtPS.Sdk;

/// <summary>
/// A failure that a person must read: what is wrong, with which thing, and the remedy. <see cref="ErrorId"/> becomes the ErrorRecord's id
/// (<c>VMNotFound</c>, <c>ImageInvalid</c>, …; the list is in COMMANDS.md).
/// </summary>
public class VirtException : Exception
{
    public VirtException(string errorId, string message, Exception? inner = null) : base(message, inner) => ErrorId = errorId;

    public VirtException(string errorId, string message, string? recommendedAction, object? target = null, Exception? inner = null)
        : base(message, inner)
    {
        ErrorId = errorId;
        RecommendedAction = recommendedAction;
        Target = target;
    }

    public string ErrorId { get; }

    /// <summary>What the user can do about it, as a sentence; null where nothing can be said.</summary>
    public string? RecommendedAction { get; }

    /// <summary>The thing that failed: a name, a path, a property.</summary>
    public object? Target { get; }
}
