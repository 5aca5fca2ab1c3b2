using System.Runtime.InteropServices;

namespace VirtPS.Emulation;

/// <summary>
/// Turns a processor fault in generated code, which is a defect of ours, into an exit from it, so that one VM ends with a report instead of the process without one. Signal
/// handlers belong to the process, hence this one static object. The handler is generated code, too: it compares the interrupted RIP with the ranges
/// of a table and either sends the thread to its code cache's exit or goes on to the handler that was there before (the runtime's).
/// </summary>
internal sealed unsafe partial class HostFaults
{
    private const int MaxRanges = 1024, SigIll = 4, SigBus = 7, SigFpe = 8, SigSegv = 11;

    // ucontext_t of x86-64 Linux: general registers from 40, in the order of <sys/ucontext.h>.
    private const int ContextRsp = 40 + 15 * 8, ContextRip = 40 + 16 * 8;

    private static readonly Lazy<HostFaults?> s_instance = new(Install);

    /// <summary>Start and end of executable code, where to send the thread, its stack pointer there. A start of 0 ends the table; an empty entry starts at its end.</summary>
    private readonly ulong* _ranges;
    private readonly Lock _gate = new();

    private HostFaults(ulong* ranges) => _ranges = ranges;

    /// <summary>Null where there is no such handler: not Linux.</summary>
    public static HostFaults? Instance => s_instance.Value;

    /// <summary>Watches code until <see cref="Remove"/>; -1 when the table is full, and a fault then ends the process.</summary>
    public int Add(byte* start, int size, byte* exit, byte* stackPointer)
    {
        lock (_gate)
        {
            for (int i = 0; i < MaxRanges - 1; i++)
            {
                ulong* r = _ranges + 4 * i;
                if (r[0] != 0 && r[0] != r[1])
                    continue;
                (r[2], r[3]) = ((ulong)exit, (ulong)stackPointer);
                Volatile.Write(ref r[1], (ulong)(start + size));
                Volatile.Write(ref r[0], (ulong)start);
                return i;
            }
        }

        return -1;
    }

    public void Remove(int index)
    {
        lock (_gate)
            Volatile.Write(ref _ranges[4 * index], _ranges[4 * index + 1]);
    }

    private static HostFaults? Install()
    {
        if (!OperatingSystem.IsLinux())
            return null;
        // SAFETY: both live as long as the process, because the handler does.
        var ranges = (ulong*)NativeMemory.AllocZeroed(4 * MaxRanges, sizeof(ulong));
        var code = new DoubleMapping(4096);
        var a = new HostAssembler(code.Writable, code.Size);
        foreach (int signal in (ReadOnlySpan<int>)[SigSegv, SigBus, SigFpe, SigIll])
        {
            SignalAction action;
            if (Posix.Sigaction(signal, null, &action) != 0 || action.Handler <= 1)
                continue;
            byte* handler = a.Next;
            EmitHandler(ref a, ranges, action.Handler);
            action.Handler = (nint)(handler + (code.Executable - code.Writable));
            _ = Posix.Sigaction(signal, &action, null);
        }

        return new HostFaults(ranges);
    }

    private static void EmitHandler(ref HostAssembler a, ulong* ranges, nint previous)
    {
        // Signal in EDI, siginfo in RSI, ucontext in RDX.
        var context = new HostMemory(HostReg.Rdx, ContextRip);
        a.Load(HostReg.Rax, context);
        a.MoveImmediate(HostReg.Rcx, (long)ranges);
        byte* again = a.Next;
        a.Load(HostReg.R8, new HostMemory(HostReg.Rcx, 0));
        a.Op(0x85, (int)HostReg.R8, HostReg.R8, w: true);
        byte* chain = a.JumpIf(4);
        a.Op(0x3B, (int)HostReg.Rax, HostReg.R8, w: true);
        byte* below = a.JumpIf(2);
        a.Op(0x3B, (int)HostReg.Rax, new HostMemory(HostReg.Rcx, 8), w: true);
        byte* above = a.JumpIf(3);
        a.Load(HostReg.R8, new HostMemory(HostReg.Rcx, 24));
        a.Store(new HostMemory(HostReg.R8, Stubs.HostFaultOffset), HostReg.Rax);
        a.Store32(new HostMemory(HostReg.R8, Stubs.HostFaultOffset + 8), HostReg.Rdi);
        a.Store(new HostMemory(HostReg.Rdx, ContextRsp), HostReg.R8);
        a.Load(HostReg.R8, new HostMemory(HostReg.Rcx, 16));
        a.Store(context, HostReg.R8);
        a.Return();
        a.Bind(below);
        a.Bind(above);
        a.Op(0x83, 0, HostReg.Rcx, w: true);
        a.Byte(32);
        a.Jump(again);
        a.Bind(chain);
        a.MoveImmediate(HostReg.Rax, previous);
        a.Op(0xFF, 4, HostReg.Rax);
    }

    /// <summary>struct sigaction of glibc and musl on x86-64.</summary>
    [StructLayout(LayoutKind.Sequential)]
    private struct SignalAction
    {
        public nint Handler;
        public fixed ulong Mask[16];
        public int Flags;
        public nint Restorer;
    }

    private static partial class Posix
    {
        [LibraryImport("libc", EntryPoint = "sigaction")]
        public static partial int Sigaction(int signal, SignalAction* action, SignalAction* old);
    }
}
