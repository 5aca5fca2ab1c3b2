using System.Buffers.Binary;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace VirtPS.Guest.Tests;

/// <summary>Small static Linux programs, assembled here: what a guest's user space needs a test for and busybox has not.</summary>
internal static class GuestProgram
{
    private const uint Base = 0x10000, HeaderRoom = 0x1000;

    /// <summary>An ELF program whose code stands at its start; <paramref name="bits"/> 32 or 64. The page behind the code is writable, too.</summary>
    private static byte[] Link(int bits, Action<Assembler> write)
    {
        var a = new Assembler(bits);
        write(a);
        var stream = new MemoryStream();
        a.Assemble(new StreamCodeWriter(stream), Base + HeaderRoom);
        byte[] code = stream.ToArray();
        byte[] file = new byte[HeaderRoom + code.Length];
        code.CopyTo(file, (int)HeaderRoom);
        bool wide = bits == 64;
        int header = wide ? 64 : 52;
        "\u007fELF"u8.CopyTo(file);
        (file[4], file[5], file[6]) = (wide ? (byte)2 : (byte)1, 1, 1);
        Span<byte> f = file;
        BinaryPrimitives.WriteUInt16LittleEndian(f[16..], 2);
        BinaryPrimitives.WriteUInt16LittleEndian(f[18..], wide ? (ushort)62 : (ushort)3);
        f[20] = 1;
        uint memory = (uint)file.Length + 0x4000;
        uint[] numbers = wide
            ? [Base + HeaderRoom, 0, 64, 0, 0, 0, 0, 64 | 56 << 16, 1, 0]
            : [Base + HeaderRoom, 52, 0, 0, 52 | 32 << 16, 1, 0];
        Put(f[24..], numbers);
        const uint loadable = 1, readWriteExecute = 7;
        Put(f[header..], wide
            ? [loadable, readWriteExecute, 0, 0, Base, 0, Base, 0, (uint)file.Length, 0, memory, 0, 0x1000, 0]
            : [loadable, 0, Base, Base, (uint)file.Length, memory, readWriteExecute, 0x1000]);
        return file;
    }

    private static void Put(Span<byte> at, ReadOnlySpan<uint> numbers)
    {
        for (int i = 0; i < numbers.Length; i++)
            BinaryPrimitives.WriteUInt32LittleEndian(at[(i * 4)..], numbers[i]);
    }

    /// <summary>Keeps a pattern of its own in YMM0–YMM3 over two hundred thousand system calls, calculating with it in between; exit code 0 if it was there each time.</summary>
    public static byte[] Avx2() => Link(64, a =>
    {
        const int getPid = 39, yield = 24;
        Label loop = a.CreateLabel(), bad = a.CreateLabel();
        a.mov(eax, getPid);
        a.syscall();
        a.vmovd(xmm0, eax);
        a.vpbroadcastd(ymm0, xmm0);
        a.vpaddd(ymm1, ymm0, ymm0);
        a.mov(ebx, 100_000);
        a.Label(ref loop);
        a.vpsubd(ymm2, ymm1, ymm0);
        a.mov(eax, yield);
        a.syscall();
        a.vpcmpeqd(ymm3, ymm2, ymm0);
        a.vpmovmskb(eax, ymm3);
        a.cmp(eax, -1);
        a.jne(bad);
        a.vpaddd(ymm2, ymm2, ymm0);
        a.mov(eax, getPid);
        a.syscall();
        a.vpcmpeqd(ymm3, ymm2, ymm1);
        a.vpmovmskb(eax, ymm3);
        a.cmp(eax, -1);
        a.jne(bad);
        a.dec(ebx);
        a.jne(loop);
        EndGoodOrBad(a, bad);
    });

    /// <summary>
    /// Keeps a pattern of its own in ZMM1, ZMM17 and ZMM31, all 512 bits of them, and a mask of its own in K1 and K7 over two hundred thousand system calls, calculating with them in between; exit code 0 if all
    /// was there each time.
    /// </summary>
    public static byte[] Avx512() => Link(64, a =>
    {
        const int getPid = 39, yield = 24;
        Label loop = a.CreateLabel(), bad = a.CreateLabel();
        a.mov(eax, getPid);
        a.syscall();
        a.mov(r12d, eax);
        a.vpbroadcastd(zmm1, r12d);
        a.vpaddd(zmm17, zmm1, zmm1);
        a.vpaddd(zmm31, zmm17, zmm1);
        a.kmovd(k1, r12d);
        a.knotd(k7, k1);
        a.mov(ebx, 100_000);
        a.Label(ref loop);
        a.vpsubd(zmm18, zmm31, zmm17);
        a.mov(eax, yield);
        a.syscall();
        a.vpcmpeqd(k2, zmm18, zmm1);
        a.kmovw(eax, k2);
        a.cmp(eax, 0xFFFF);
        a.jne(bad);
        a.mov(eax, getPid);
        a.syscall();
        a.vpaddd(zmm19, zmm18, zmm17);
        a.vpcmpeqd(k2, zmm19, zmm31);
        a.kortestw(k2, k2);
        a.jnc(bad);
        a.kaddd(k3, k1, k7);
        a.kmovd(eax, k3);
        a.cmp(eax, -1);
        a.jne(bad);
        a.kmovd(eax, k1);
        a.cmp(eax, r12d);
        a.jne(bad);
        a.dec(ebx);
        a.jne(loop);
        EndGoodOrBad(a, bad);
    });

    /// <summary>Keeps an FS and a GS base of its own, set without the kernel, over a hundred thousand system calls; asks RDPID and RDTSCP on which processor it is (the first, there being no other). Exit code 0 if all was right.</summary>
    public static byte[] Bases() => Link(64, a =>
    {
        const int getPid = 39, yield = 24;
        Label loop = a.CreateLabel(), bad = a.CreateLabel();
        a.mov(eax, getPid);
        a.syscall();
        a.mov(r12, rax);
        a.shl(r12, 24);
        a.wrfsbase(r12);
        a.lea(r13, __[r12 + 0x1000]);
        a.wrgsbase(r13);
        a.mov(ebx, 100_000);
        a.Label(ref loop);
        a.mov(eax, yield);
        a.syscall();
        a.rdfsbase(rax);
        a.cmp(rax, r12);
        a.jne(bad);
        a.rdgsbase(rax);
        a.cmp(rax, r13);
        a.jne(bad);
        a.rdpid(rax);
        a.test(eax, eax);
        a.jne(bad);
        a.mov(ecx, -1);
        a.rdtscp();
        a.test(ecx, ecx);
        a.jne(bad);
        a.dec(ebx);
        a.jne(loop);
        EndGoodOrBad(a, bad);
    });

    /// <summary>A 32-bit program: speaks by INT 80h, and by the kernel's own entry (AT_SYSINFO); says which instruction that is made of.</summary>
    public static byte[] Compat() => Link(32, a =>
    {
        const int write = 4, exit = 1, systemInfo = 32;
        Label environment = a.CreateLabel(), vector = a.CreateLabel(), found = a.CreateLabel(), none = a.CreateLabel(), scan = a.CreateLabel(), say = a.CreateLabel(), other = a.CreateLabel();
        void Write(string text)
        {
            // The call's return address is the text's: 32-bit code cannot name a place relative to itself in another way.
            Label behind = a.CreateLabel();
            a.call(behind);
            a.db(System.Text.Encoding.ASCII.GetBytes(text + "\n"));
            a.Label(ref behind);
            a.pop(ecx);
            a.mov(eax, write);
            a.mov(ebx, 1);
            a.mov(edx, text.Length + 1);
        }

        a.mov(esi, esp);
        Write("32-bit by int80");
        a.@int(0x80);
        // argc, arguments, 0, environment, 0, pairs.
        a.lodsd();
        a.lea(esi, __[esi + eax * 4 + 4]);
        a.Label(ref environment);
        a.lodsd();
        a.test(eax, eax);
        a.jne(environment);
        a.Label(ref vector);
        a.lodsd();
        a.test(eax, eax);
        a.je(none);
        a.cmp(eax, systemInfo);
        a.je(found);
        a.add(esi, 4);
        a.jmp(vector);
        a.Label(ref found);
        a.mov(edi, __[esi]);
        Write("32-bit by the kernel");
        a.call(edi);
        // SYSCALL is 0F 05.
        a.mov(ecx, 16);
        a.Label(ref scan);
        a.cmp(__word_ptr[edi], 0x050F);
        a.je(say);
        a.inc(edi);
        a.loop(scan);
        a.jmp(other);
        a.Label(ref say);
        Write("kernel's way is syscall");
        a.@int(0x80);
        a.jmp(none);
        a.Label(ref other);
        Write("kernel's way is another");
        a.@int(0x80);
        a.Label(ref none);
        a.mov(eax, exit);
        a.xor(ebx, ebx);
        a.@int(0x80);
    });

    /// <summary>Returns from a signal that never came to a code segment that is not there: the kernel's return to it fails, and it is killed (SIGSEGV).</summary>
    public static byte[] BadReturn() => Link(64, a =>
    {
        const int sigreturn = 15;
        Label here = a.CreateLabel(), frame = a.CreateLabel();
        a.lea(rsp, __[frame]);
        a.lea(rax, __[here]);
        // struct ucontext: RSP, RIP, RFLAGS, CS, SS of its sigcontext.
        a.mov(__qword_ptr[rsp + 160], rsp);
        a.mov(__qword_ptr[rsp + 168], rax);
        a.mov(__qword_ptr[rsp + 176], 0x202);
        a.mov(__word_ptr[rsp + 184], 0x5003);
        a.mov(__word_ptr[rsp + 190], 0x2B);
        a.mov(eax, sigreturn);
        a.syscall();
        a.Label(ref here);
        a.hlt();
        a.Label(ref frame);
        a.db(new byte[1024]);
    });

    /// <summary>Exit code 0 for whom comes here, 1 for whom jumps to <paramref name="bad"/>.</summary>
    private static void EndGoodOrBad(Assembler a, Label bad)
    {
        const int exit = 60;
        a.xor(edi, edi);
        a.mov(eax, exit);
        a.syscall();
        a.Label(ref bad);
        a.mov(edi, 1);
        a.mov(eax, exit);
        a.syscall();
    }
}
