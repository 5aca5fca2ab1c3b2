using System.Runtime.InteropServices;
using Iced.Intel;

namespace VirtPS.Emulation;

/// <summary>Collects the handler of each instruction form while the table is made.</summary>
internal sealed unsafe class HandlerTableBuilder
{
    internal const int Count = 6000;
    private readonly ILookup<Mnemonic, Code> _byMnemonic = Enum.GetValues<Code>()
        .Where(c => c.Encoding() is EncodingKind.Legacy or EncodingKind.VEX && !c.ToString().StartsWith("VEX_KNC", StringComparison.Ordinal))
        .ToLookup(c => c.Mnemonic());
    internal readonly delegate*<SoftVcpu, Op*, bool>[] Handlers = new delegate*<SoftVcpu, Op*, bool>[Count];

    /// <summary>Sets the handler; a second registration of the same form replaces the first.</summary>
    public void Register(Code code, delegate*<SoftVcpu, Op*, bool> handler) => Handlers[(int)code] = handler;

    public void Register(delegate*<SoftVcpu, Op*, bool> handler, params ReadOnlySpan<Code> codes)
    {
        foreach (Code code in codes)
            Handlers[(int)code] = handler;
    }

    /// <summary>All legacy and VEX forms of a mnemonic (not those of Knights Corner).</summary>
    public void Register(Mnemonic mnemonic, delegate*<SoftVcpu, Op*, bool> handler)
    {
        foreach (Code code in _byMnemonic[mnemonic])
            Handlers[(int)code] = handler;
    }

    public bool IsRegistered(Code code) => Handlers[(int)code] != null;
}

/// <summary>The complete handler of every instruction form that the modelled processor has; anything else is #UD. Immutable.</summary>
internal static unsafe class HandlerTable
{
    private static readonly delegate*<SoftVcpu, Op*, bool>* s_table = Build();

    public static delegate*<SoftVcpu, Op*, bool> Get(Code code) => s_table[(int)code];

    /// <summary>Whether some family implements the form (tests).</summary>
    public static bool Implements(Code code) => (void*)s_table[(int)code] != (void*)s_table[(int)Code.INVALID];

    public static bool Undefined(SoftVcpu cpu, Op* op) => cpu.Raise(X86.Vector.UD);

    private static delegate*<SoftVcpu, Op*, bool>* Build()
    {
        var b = new HandlerTableBuilder();
        IntegerHandlers.Register(b);
        SystemHandlers.Register(b);
        SimdHandlers.Register(b);
        // SAFETY: lives as long as the process; HandlerTableBuilder.Count entries, more than Iced has codes.
        var table = (delegate*<SoftVcpu, Op*, bool>*)NativeMemory.Alloc(HandlerTableBuilder.Count, (nuint)sizeof(void*));
        for (int i = 0; i < HandlerTableBuilder.Count; i++)
            table[i] = b.Handlers[i] == null ? &Undefined : b.Handlers[i];
        return table;
    }
}
