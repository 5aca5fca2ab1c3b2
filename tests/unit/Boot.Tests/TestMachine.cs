using System.Runtime.InteropServices;
using System.Text;
using VirtPS.Engine.Boot;
using VirtPS.Engine.Firmware;
using VirtPS.Sdk.Cpu;
using VirtPS.Sdk.Machine;
using VirtPS.Sdk.Memory;

namespace VirtPS.Boot.Tests;

/// <summary>Guest memory, one vCPU's state, and scratch files: enough to load a guest into.</summary>
internal sealed unsafe class TestMachine : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("virtps-boot-").FullName;

    public TestMachine(ulong ram = 64 << 20)
    {
        Layout = MemoryLayout.ForRam(ram);
        foreach (MemoryRange range in Layout.Ram)
            Memory.Add(new MemorySlot("ram", range.Start, new HeapMemoryRegion(range.Size)));
        State = (VcpuState*)NativeMemory.AlignedAlloc((nuint)sizeof(VcpuState), 64);
        NativeMemory.Clear(State, (nuint)sizeof(VcpuState));
        VcpuState.Reset(State, init: false, bootstrap: true);
    }

    public GuestMemory Memory { get; } = new();

    public MemoryLayout Layout { get; }

    public VcpuState* State { get; }

    public string WriteFile(string name, byte[] content)
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllBytes(path, content);
        return path;
    }

    public GuestEntry Load(BootConfiguration boot, int vcpus = 1) =>
        new GuestBoot().Load(new BootContext { Memory = Memory, Layout = Layout, Boot = boot, State = State, VcpuCount = vcpus });

    public byte[] Bytes(ulong address, int count)
    {
        byte[] bytes = new byte[count];
        Assert.True(Memory.TryRead(address, bytes), $"no memory at 0x{address:X}");
        return bytes;
    }

    public T Read<T>(ulong address) where T : unmanaged
    {
        Assert.True(Memory.TryRead(address, out T value), $"no memory at 0x{address:X}");
        return value;
    }

    public string Text(ulong address)
    {
        byte[] bytes = Bytes(address, 4096);
        return Encoding.UTF8.GetString(bytes, 0, Array.IndexOf(bytes, (byte)0));
    }

    public void Dispose()
    {
        Memory.Dispose();
        NativeMemory.AlignedFree(State);
        Directory.Delete(_folder, recursive: true);
    }
}
