using Iced.Intel;
using VirtPS.Emulation;
using VirtPS.Emulation.Thunks;
using VirtPS.Opcodes;
using VirtPS.Sdk.Cpu;
using VirtPS.X86;

namespace VirtPS.VectorTests;

/// <summary>A guest that runs a few instructions at ring 3 in long mode; the page behind the stack is not mapped.</summary>
public sealed unsafe class VectorGuest : IDisposable
{
    private readonly Layout _layout;
    private readonly GuestRunner _runner;
    private readonly MachineImage* _image = (MachineImage*)System.Runtime.InteropServices.NativeMemory.AllocZeroed((nuint)sizeof(MachineImage));

    public VectorGuest()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux() && HostFeatures.Current.Avx2, "the guest of these tests needs a Linux x64 host with AVX2");
        _layout = new Layout();
        _runner = new GuestRunner(_layout);
        _image->Randomize(new XorShift(1), Stack);
        Mxcsr = 0x1F80;
        Fcw = 0x37F;
        *(ushort*)Xsave(2) = 0;
        *Xsave(4) = 0;
    }

    /// <summary>Linear address of a writable page.</summary>
    internal ulong Data => (ulong)_layout.Sandbox;

    internal ulong Stack => (ulong)_layout.StackTop + 2048;

    /// <summary>First address that is not mapped.</summary>
    internal ulong Unmapped => (ulong)_layout.StackTop + Layout.Page;

    internal VcpuState* State => _runner.Vcpu.State;

    internal ref ulong Gpr(Gpr r) => ref _image->Gpr[(int)r];

    internal uint Mxcsr
    {
        get => *(uint*)Xsave(24);
        set => *(uint*)Xsave(24) = value;
    }

    internal ushort Fcw
    {
        get => *(ushort*)Xsave(0);
        set => *(ushort*)Xsave(0) = value;
    }

    internal ushort Fsw => *(ushort*)Xsave(2);

    internal byte Ftw => *Xsave(4);

    internal ref ulong Flags => ref _image->Flags;

    /// <summary>Memory that the host may execute; not the guest's.</summary>
    internal byte* NativeCode => _layout.Stubs;

    /// <summary>Address of a byte of the register image.</summary>
    internal byte* Xsave(int offset) => _image->Xsave + offset;

    internal Span<T> Xmm<T>(int n) where T : unmanaged => new(Xsave(160 + 16 * n), 16 / sizeof(T));

    internal Span<T> YmmHigh<T>(int n) where T : unmanaged => new(Xsave(576 + 16 * n), 16 / sizeof(T));

    /// <summary>Guest memory at a linear address.</summary>
    internal T* At<T>(ulong linear) where T : unmanaged => (T*)_runner.Guest((byte*)linear);

    /// <summary>Assembles and runs; null when it got to its end, else the fault as <c>#XM(0) at +0x0 …</c>. The image is what it left.</summary>
    internal string? Run(Action<Assembler> write, int bits = 64)
    {
        var assembler = new Assembler(bits);
        write(assembler);
        var stream = new MemoryStream();
        assembler.Assemble(new StreamCodeWriter(stream), (ulong)_layout.Code);
        string? fault = _runner.Run(_layout.Code, stream.ToArray(), bits, *_image, out MachineImage output);
        *_image = output;
        return fault;
    }

    public void Dispose()
    {
        _runner.Dispose();
        _layout.Dispose();
        System.Runtime.InteropServices.NativeMemory.Free(_image);
    }
}
