using Iced.Intel;

namespace VirtPS.Opcodes;

// String instructions where they are hard: over page ends, onto themselves, downward, into nothing half-way, and onto code.
internal sealed unsafe partial class ProgramGenerator
{
    private static readonly Code[] s_strings =
    [
        Code.Movsb_m8_m8, Code.Movsw_m16_m16, Code.Movsd_m32_m32, Code.Movsq_m64_m64, Code.Stosb_m8_AL, Code.Stosw_m16_AX, Code.Stosd_m32_EAX, Code.Stosq_m64_RAX,
        Code.Lodsb_AL_m8, Code.Lodsw_AX_m16, Code.Lodsd_EAX_m32, Code.Lodsq_RAX_m64, Code.Cmpsb_m8_m8, Code.Cmpsw_m16_m16, Code.Cmpsd_m32_m32, Code.Cmpsq_m64_m64,
        Code.Scasb_AL_m8, Code.Scasw_AX_m16, Code.Scasd_EAX_m32, Code.Scasq_RAX_m64,
    ];

    /// <summary>Elements at most.</summary>
    private const int LongestString = 600;

    private void String()
    {
        int form = _random.Below(s_strings.Length);
        Code code = s_strings[form];
        int size = 1 << (form & 3);
        if (size == 8 && _bits == 32)
            return;
        bool downward = _random.OneIn(6);
        Emit(Instruction.Create(downward ? Code.Std : Code.Cld));
        int count = _random.OneIn(8) ? 0 : 1 + _random.Below(_random.OneIn(2) ? 9 : LongestString);
        if (!downward && _random.OneIn(8))
        {
            Count("string into nothing");
            count = _random.OneIn(3) ? int.MaxValue : count;
            bool source = _random.OneIn(3);
            LoadPointers(source ? Nothing(size) : InSandbox(size, count, false), source ? InSandbox(size, count, false) : Nothing(size));
        }
        else
        {
            Count("string");
            ulong from = InSandbox(size, count, downward);
            // Now and then a few bytes apart, and equal for long.
            LoadPointers(from, _random.OneIn(3) ? Clamp(from + (ulong)_random.Below(17) - 4, size, count, downward) : InSandbox(size, count, downward));
        }

        if (_random.OneIn(3))
            Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, _random.OneIn(2) ? 0 : (int)_random.Next()));
        Emit(LoadRegister(Register.RCX, (ulong)count));
        // Flags that are dead behind it, or made by what it changes.
        if (_random.OneIn(3))
            Emit(Instruction.Create(Code.Cmp_r32_rm32, _random.Pick<Register>([Register.EDI, Register.ESI, Register.ECX, Register.EDX]), Register.EBX));
        EmitStringInstruction(code);
        if (_random.OneIn(3))
            Emit(Instruction.Create(Code.Test_rm32_r32, Register.ECX, Register.ECX));
        if (downward && !_random.OneIn(8))
            Emit(Instruction.Create(Code.Cld));
    }

    private void EmitStringInstruction(Code code)
    {
        int prefix = _random.Below(5);
        if (prefix < 4)
            Program.EmitRaw([prefix == 0 ? (byte)0xF2 : (byte)0xF3]);
        // One byte, behind a prefix for 16 bits or REX.W.
        int form = Array.IndexOf(s_strings, code), size = form & 3;
        int opcode = (form >> 2) switch { 0 => 0xA4, 1 => 0xAA, 2 => 0xAC, 3 => 0xA6, _ => 0xAE } | (size == 0 ? 0 : 1);
        if (size == 1)
            Program.EmitRaw([0x66]);
        if (size == 3)
            Program.EmitRaw([0x48]);
        Program.EmitRaw([(byte)opcode]);
    }

    /// <summary>A place in the sandbox from which the elements lie in it, mostly near the end of its first page.</summary>
    private ulong InSandbox(int size, int count, bool downward) =>
        Clamp((ulong)_layout.Sandbox + (ulong)(_random.OneIn(2) ? Layout.Page - 40 + _random.Below(80) : _random.Below(2 * Layout.Page)), size, count, downward);

    private ulong Clamp(ulong place, int size, int count, bool downward)
    {
        ulong length = (ulong)(size * Math.Min(count, LongestString)), sandbox = (ulong)_layout.Sandbox, end = sandbox + 2 * Layout.Page;
        return downward ? Math.Clamp(place, sandbox + length, end - (ulong)size) : Math.Clamp(place, sandbox, end - (ulong)size - length);
    }

    /// <summary>Shortly before the page that is not there, or in the one that cannot be written, or where no address is.</summary>
    private ulong Nothing(int size) => _random.Below(4) switch
    {
        0 => (ulong)_layout.ReadOnly + (ulong)_random.Below(Layout.Page),
        1 when _bits == 64 => 0x1234_8000_0000_0000 + (ulong)_random.Below(64),
        _ => (ulong)_layout.Hole - (ulong)_random.Below(size * 6),
    };

    private void LoadPointers(ulong source, ulong destination)
    {
        Emit(LoadRegister(Register.RSI, source));
        Emit(LoadRegister(Register.RDI, destination));
    }

    private Instruction LoadRegister(Register register, ulong value) => _bits == 64 ? Instruction.Create(Code.Mov_r64_imm64, register, value)
        : Instruction.Create(Code.Mov_r32_imm32, Register.EAX + (register - Register.RAX), (uint)value);

    /// <summary>REP STOSB or MOVSB over the immediate of an instruction ahead, often the very next one.</summary>
    private void StringOntoCode()
    {
        Count("string onto code");
        int between = _random.OneIn(2) ? 0 : 1 + _random.Below(60);
        bool stores = _random.OneIn(2);
        int value = (int)_random.Next();
        ulong source = InSandbox(1, 4, false);
        int start = Program.Length;
        EmitOntoCode(Here, source, stores, value);
        int length = Program.Length - start;
        Program.Truncate(start);
        EmitOntoCode(Here + (ulong)(length + between + VictimImmediate), source, stores, value);
        for (int i = 0; i < between; i++)
            Emit(Instruction.Create(Code.Nopd));
        EmitImmediateVictim();
    }

    private void EmitOntoCode(ulong target, ulong source, bool stores, int value)
    {
        Emit(Instruction.Create(Code.Cld));
        LoadPointers(source, target);
        Emit(LoadRegister(Register.RCX, 4));
        Emit(Instruction.Create(Code.Mov_r32_imm32, Register.EAX, value));
        Program.EmitRaw([0xF3, stores ? (byte)0xAA : (byte)0xA4]);
    }
}
