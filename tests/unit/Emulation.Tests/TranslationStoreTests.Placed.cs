namespace VirtPS.Emulation.Tests;

// Code with addresses of its own in it.
public sealed unsafe partial class TranslationStoreTests
{
    /// <summary>A supervisor's program in the upper half with addresses of its own in it, as a kernel that is not relocated by its tables has them.</summary>
    /// <param name="other">It has a block without any, too.</param>
    private (ulong Rax, ulong Instructions, ulong? Stored) RunPlaced(int pml4, bool other = false)
    {
        ulong at = 0xFFFF_0000_0000_0000 | (ulong)pml4 << 39;
        using var g = new TestGuest(1, Engine);
        g.LongMode();
        g.Write(g.S->Cr3 + (ulong)pml4 * 8, g.Read<ulong>(g.S->Cr3));
        g.Assemble(64, TestGuest.Code, a =>
        {
            Label top = a.CreateLabel(), there = a.CreateLabel(), end = a.CreateLabel(), perProcessor = a.CreateLabel(), back = a.CreateLabel(), function = a.CreateLabel();
            a.mov(ecx, 40);
            a.xor(eax, eax);
            a.Label(ref top);
            a.mov(rbx, at + TestGuest.Code);
            a.sub(rbx, rcx);
            a.jmp(there);
            a.nop();
            a.Label(ref there);
            a.add(rax, rbx);
            a.mov(rdx, at + TestGuest.Code + 7);
            a.xor(rax, rdx);
            a.lea(rbp, __[perProcessor]);
            a.jmp(rbp);
            a.Label(ref perProcessor);
            a.mov(rsi, __qword_ptr.gs[top]);
            a.lea(rbp, __[back]);
            a.jmp(rbp);
            a.Label(ref back);
            a.mov(rdx, at + TestGuest.Code + 9);
            a.dec(ecx);
            a.jz(end);
            a.jmp(top);
            a.Label(ref end);
            a.mov(rdx, at + TestGuest.Code + 3);
            if (other)
                a.call(function);
            a.mov(rdx, at + TestGuest.Code + 5);
            a.hlt();
            a.Label(ref function);
            a.ret();
        }, at + TestGuest.Code);
        g.Cpu.CommitState();
        g.S->Rip = at + TestGuest.Code;
        g.RunToHalt();
        var result = (g[Gpr.Rax], g.S->InstructionsRetired, g.Cpu.ReadStatistics().Engine!.StoredTranslations);
        g.Partition.Finish();
        return result;
    }

    [Fact]
    public void Code_that_names_its_place_is_taken_there_and_no_file_is_written_for_it()
    {
        RunProgram();
        var cold = RunPlaced(511);
        var again = RunPlaced(511);
        Assert.Equal((0ul, 0ul), (cold.Stored, again.Stored));
        // With something else it is kept, for one run.
        RunPlaced(511, other: true);
        var warm = RunPlaced(511);
        Assert.True(warm.Stored > 1, $"{warm.Stored} taken");
        Assert.Equal((cold.Rax, cold.Instructions), (warm.Rax, warm.Instructions));
        byte[] file = File.ReadAllBytes(StoreFilePath);
        // But for the access by way of GS, which in this program, unlike a kernel's, moves along.
        Assert.Equal(1ul, RunPlaced(510).Stored);
        Assert.Equal(file, File.ReadAllBytes(StoreFilePath));
        // Written for something new some times, it is without what was not taken.
        RunProgram(constant: 12345);
        Assert.True(RunPlaced(511).Stored > 1);
        for (int i = 0; i < 6; i++)
            RunProgram(constant: i);
        Assert.Equal(0ul, RunPlaced(511).Stored);
    }
}
