namespace VirtPS.Opcodes;

// The host against itself: shows that what is generated does not fault there and that the processor answers the same twice, without the emulator.
internal sealed unsafe partial class Oracle
{
    private readonly byte[] _sandboxAfter = new byte[Layout.SandboxPages * Layout.Page], _stackAfter = new byte[Layout.Page];

    /// <summary>Every sequence runs on the host twice and nowhere else.</summary>
    public bool NativeOnly { get; init; }

    private string? RunAgain(byte* start, ReadOnlySpan<byte> code, in Sequence.Step last)
    {
        MachineImage first = *_native.Output;
        Span<byte> sandbox = new(_layout.Sandbox, _sandboxAfter.Length), stack = new(_layout.StackTop, Layout.Page);
        sandbox.CopyTo(_sandboxAfter);
        stack.CopyTo(_stackAfter);
        _sandboxBefore.CopyTo(sandbox);
        _stackBefore.CopyTo(stack);
        _native.Run(start, code, _bits);
        if (_native.Faulted)
            return $"    native, the second time: {_native.DescribeFault()}\n";
        fixed (byte* s = _sandboxAfter, t = _stackAfter)
        {
            return Comparer.Compare(first, *_native.Output, last.UndefinedFlags, _bits)
                ?? Comparer.ComparePage("sandbox", s, _layout.Sandbox, [])
                ?? Comparer.ComparePage("sandbox's second page", s + Layout.Page, _layout.Sandbox + Layout.Page, [])
                ?? Comparer.ComparePage("stack", t, _layout.StackTop, []);
        }
    }
}
