using System.Runtime.InteropServices;

namespace VirtPS.Emulation.Tests;

/// <summary>The byte emitter, read back by a decoder that is not ours.</summary>
public sealed unsafe class HostAssemblerTests : IDisposable
{
    private readonly byte* _buffer = (byte*)NativeMemory.Alloc(4096);
    private static readonly HostReg[] s_all = [.. Enum.GetValues<HostReg>().Where(r => r != HostReg.None)];

    private delegate void Emit(ref HostAssembler a);

    public void Dispose() => NativeMemory.Free(_buffer);

    private string Text(Emit emit)
    {
        var a = new HostAssembler(_buffer, 4096);
        emit(ref a);
        int size = (int)(a.Next - _buffer);
        var decoder = Iced.Intel.Decoder.Create(64, new ReadOnlySpan<byte>(_buffer, size).ToArray());
        decoder.IP = 0x1000;
        decoder.Decode(out Instruction i);
        Assert.False(i.IsInvalid);
        Assert.Equal(size, i.Length);
        var output = new StringOutput();
        new NasmFormatter(new FormatterOptions { SpaceAfterOperandSeparator = false, HexPrefix = "0x", HexSuffix = "" }).Format(i, output);
        return output.ToStringAndReset();
    }

    private static string Name(HostReg r) => r.ToString().ToLowerInvariant();

    [Fact]
    public void Moves_between_all_registers()
    {
        foreach (HostReg to in s_all)
        {
            foreach (HostReg from in s_all)
                Assert.Equal($"mov {Name(to)},{Name(from)}", Text((ref HostAssembler a) => a.Move(to, from)));
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(-128)]
    [InlineData(127)]
    [InlineData(128)]
    [InlineData(-0x12345678)]
    public void Memory_operands_with_every_base_and_index(int displacement)
    {
        foreach (HostReg b in s_all)
        {
            foreach (HostReg x in s_all)
            {
                if (x == HostReg.Rsp)
                    continue;
                for (int scale = 0; scale < 4; scale++)
                {
                    string text = Text((ref HostAssembler a) => a.Load(HostReg.R13, new HostMemory(b, displacement, x, scale)));
                    var expected = new Assembler(64);
                    expected.mov(r13, __qword_ptr[Of(b) + Of(x) * (1 << scale) + displacement]);
                    Assert.Equal(TextOf(expected.Instructions[0]), text);
                }
            }

            string plain = Text((ref HostAssembler a) => a.Store(new HostMemory(b, displacement), HostReg.Rsi));
            var e = new Assembler(64);
            e.mov(__qword_ptr[Of(b) + displacement], rsi);
            Assert.Equal(TextOf(e.Instructions[0]), plain);
        }
    }

    [Fact]
    public void A_constant_takes_the_shortest_form()
    {
        foreach (HostReg r in s_all)
        {
            Assert.EndsWith(",1", Text((ref HostAssembler a) => a.MoveImmediate(r, 1)), StringComparison.Ordinal);
            Assert.EndsWith(",0xFFFFFFFFFFFFFFFE", Text((ref HostAssembler a) => a.MoveImmediate(r, -2)), StringComparison.Ordinal);
            Assert.EndsWith(",0x123456789ABCDEF0", Text((ref HostAssembler a) => a.MoveImmediate(r, 0x123456789ABCDEF0)), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void Vex_forms()
    {
        foreach (HostReg r in s_all)
        {
            HostReg other = (HostReg)(15 - (int)r);
            Assert.Equal($"shrx {Name(r)},{Name(other)},rsp", Text((ref HostAssembler a) => a.Shrx(r, other, HostReg.Rsp)));
            Assert.Equal($"shlx {Name(r)},{Name(other)},r12", Text((ref HostAssembler a) => a.Shlx(r, other, HostReg.R12)));
            Assert.Equal($"sarx {Name(r)},{Name(other)},r9", Text((ref HostAssembler a) => a.Sarx(r, other, HostReg.R9, w: true)));
            Assert.Equal($"rorx {Name(r)},{Name(other)},7", Text((ref HostAssembler a) => a.Rorx(r, other, 7)));
            Assert.Equal($"pext {Name(r)},{Name(other)},[rsp+8]", Text((ref HostAssembler a) => a.Pext(r, other, HostMemory.State(8))));
            Assert.Equal($"pdep {Name(r)},{Name(other)},[rsp+rbp*8+0x400]", Text((ref HostAssembler a) => a.Pdep(r, other, HostMemory.Array(HostReg.Rbp, 0x400))));
        }
    }

    [Fact]
    public void Low_bytes_of_the_index_registers_need_a_prefix() =>
        Assert.Equal("mov sil,dil", Text((ref HostAssembler a) => a.Op(0x8A, (int)HostReg.Rsi, HostReg.Rdi, rex: true)));

    [Fact]
    public void Branches_reach_their_targets()
    {
        var a = new HostAssembler(_buffer, 4096);
        byte* forward = a.JumpIf(4);
        a.Byte(0x90);
        byte* shortOne = a.JumpIfRcxZero();
        a.Byte(0x90);
        a.Bind(forward);
        a.BindShort(shortOne);
        a.Jump(_buffer);
        var decoder = Iced.Intel.Decoder.Create(64, new ReadOnlySpan<byte>(_buffer, (int)(a.Next - _buffer)).ToArray());
        Instruction[] all = [.. decoder];
        Assert.Equal(all[4].IP, all[0].NearBranchTarget);
        Assert.Equal(all[4].IP, all[2].NearBranchTarget);
        Assert.Equal(0ul, all[4].NearBranchTarget);
    }

    private static AssemblerRegister64 Of(HostReg r) =>
        new[] { rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15 }[(int)r];

    private static string TextOf(in Instruction i)
    {
        var output = new StringOutput();
        new NasmFormatter(new FormatterOptions { SpaceAfterOperandSeparator = false, HexPrefix = "0x", HexSuffix = "" }).Format(i, output);
        return output.ToStringAndReset();
    }
}
