using System.Numerics;

namespace VirtPS.Device.Pic;

/// <summary>
/// One Intel 8259A (data sheet 231468). Names are the data sheet's. An edge is remembered until it is acknowledged even if the input falls again before
/// INTA; the real part would answer such an interrupt with the spurious vector. That is what KVM's 8259 does too, and it lets a device pulse its line.
/// </summary>
internal sealed class I8259A
{
    /// <summary>OCW2 commands: bits R, SL, EOI.</summary>
    private const int RotateInAeoiClear = 0, NonSpecificEoi = 1, NoOperation = 2, SpecificEoi = 3, RotateInAeoiSet = 4,
        RotateOnNonSpecificEoi = 5, SetPriority = 6, RotateOnSpecificEoi = 7;

    private readonly byte _elcrMask;
    private ChipState _s = new();

    /// <param name="elcrMask">Inputs whose ELCR bit can be set; the others are edge-triggered for good.</param>
    public I8259A(byte elcrMask) => _elcrMask = elcrMask;

    /// <summary>Everything the guest can see, as saved.</summary>
    public ChipState State
    {
        get => _s with { };
        set => _s = value with { };
    }

    public byte Elcr
    {
        get => _s.Elcr;
        set => _s.Elcr = (byte)(value & _elcrMask);
    }

    /// <summary>The INT output.</summary>
    public bool Int => HighestRequest() >= 0;

    public byte VectorBase => _s.VectorBase;

    private byte LevelInputs => _s.Ltim ? (byte)0xFF : _s.Elcr;

    /// <summary>IRR: latched edges and the inputs that are high in level mode.</summary>
    private byte Irr => (byte)((_s.EdgeLatch & ~LevelInputs) | (_s.Inputs & LevelInputs));

    /// <summary>The data sheet leaves the state before ICW1 undefined; all inputs are masked so that a guest which never programs it sees nothing.</summary>
    public void Reset() => _s = new ChipState { Imr = 0xFF, Inputs = _s.Inputs };

    public void SetInput(int input, bool level)
    {
        byte bit = (byte)(1 << input);
        if (level && (_s.Inputs & bit) == 0)
            _s.EdgeLatch |= bit;
        _s.Inputs = (byte)(level ? _s.Inputs | bit : _s.Inputs & ~bit);
    }

    /// <summary>INTA sequence: the input taken into service; -1 when no request is there any more (then the answer is IR7, ISR unchanged).</summary>
    public int Acknowledge()
    {
        int input = HighestRequest();
        if (input < 0)
            return -1;
        _s.EdgeLatch &= (byte)~(1 << input);
        if (!_s.Aeoi)
            _s.Isr |= (byte)(1 << input);
        else if (_s.RotateInAeoi)
            _s.LowestPriority = (byte)input;
        return input;
    }

    /// <summary>Read with A0 = <paramref name="a0"/>.</summary>
    public byte Read(int a0)
    {
        if (_s.Poll)
        {
            _s.Poll = false;
            int input = Acknowledge();
            return input < 0 ? (byte)0 : (byte)(0x80 | input);
        }

        return a0 == 1 ? _s.Imr : _s.ReadIsr ? _s.Isr : Irr;
    }

    public void Write(int a0, byte value)
    {
        if (a0 == 0 && (value & 0x10) != 0)
            WriteIcw1(value);
        else if (a0 == 0 && (value & 0x08) != 0)
            WriteOcw3(value);
        else if (a0 == 0)
            WriteOcw2(value);
        else
            WriteData(value);
    }

    /// <summary>ICW1 starts the sequence and clears the edge sense, IMR, special mask and priorities (data sheet, "Initialization Command Words").</summary>
    private void WriteIcw1(byte value)
    {
        _s.EdgeLatch = _s.Isr = _s.Imr = 0;
        _s.LowestPriority = 7;
        _s.SpecialMask = _s.ReadIsr = _s.Poll = _s.Aeoi = _s.RotateInAeoi = _s.SpecialFullyNested = false;
        _s.Ltim = (value & 0x08) != 0;
        _s.Single = (value & 0x02) != 0;
        _s.NeedsIcw4 = (value & 0x01) != 0;
        _s.NextIcw = 2;
    }

    private void WriteData(byte value)
    {
        switch (_s.NextIcw)
        {
            case 2:
                _s.VectorBase = (byte)(value & 0xF8);
                _s.NextIcw = !_s.Single ? (byte)3 : _s.NeedsIcw4 ? (byte)4 : (byte)0;
                break;
            case 3:
                // Which input the slave is on is wired in a PC; the word is taken and has no other effect.
                _s.NextIcw = _s.NeedsIcw4 ? (byte)4 : (byte)0;
                break;
            case 4:
                _s.SpecialFullyNested = (value & 0x10) != 0;
                _s.Aeoi = (value & 0x02) != 0;
                _s.NextIcw = 0;
                break;
            default:
                _s.Imr = value;
                break;
        }
    }

    private void WriteOcw2(byte value)
    {
        int level = value & 7;
        int command = value >> 5;
        int ended = command is NonSpecificEoi or RotateOnNonSpecificEoi ? HighestInService(ignoreMasked: _s.SpecialMask) : level;
        switch (command)
        {
            case NonSpecificEoi or SpecificEoi when ended >= 0:
                _s.Isr &= (byte)~(1 << ended);
                break;
            case RotateOnNonSpecificEoi or RotateOnSpecificEoi when ended >= 0:
                _s.Isr &= (byte)~(1 << ended);
                _s.LowestPriority = (byte)ended;
                break;
            case SetPriority:
                _s.LowestPriority = (byte)level;
                break;
            case RotateInAeoiSet or RotateInAeoiClear:
                _s.RotateInAeoi = command == RotateInAeoiSet;
                break;
            case NoOperation:
                break;
        }
    }

    private void WriteOcw3(byte value)
    {
        if ((value & 0x40) != 0)
            _s.SpecialMask = (value & 0x20) != 0;
        if ((value & 0x04) != 0)
            _s.Poll = true;
        else if ((value & 0x02) != 0)
            _s.ReadIsr = (value & 0x01) != 0;
    }

    /// <summary>The input that INT stands for: unmasked, and above everything in service; -1 for none.</summary>
    private int HighestRequest()
    {
        int request = Highest((byte)(Irr & ~_s.Imr));
        if (request < 0)
            return -1;
        int inService = HighestInService(ignoreMasked: _s.SpecialMask);
        // Special fully nested mode: a slave in service does not lock out its own higher requests.
        bool nested = _s.SpecialFullyNested && request == PicPair.CascadeInput && request == inService;
        return inService < 0 || Rank(request) < Rank(inService) || nested ? request : -1;
    }

    private int HighestInService(bool ignoreMasked) => Highest(ignoreMasked ? (byte)(_s.Isr & ~_s.Imr) : _s.Isr);

    /// <summary>The set bit with the best rank; -1 when none is set.</summary>
    private int Highest(byte bits)
    {
        if (bits == 0)
            return -1;
        int first = (_s.LowestPriority + 1) & 7;
        int rotated = ((bits | (bits << 8)) >> first) & 0xFF;
        return (BitOperations.TrailingZeroCount(rotated) + first) & 7;
    }

    /// <summary>0 is the highest priority.</summary>
    private int Rank(int input) => (input - _s.LowestPriority - 1) & 7;
}

/// <summary>One chip's saved state.</summary>
internal sealed record ChipState
{
    /// <summary>Levels of IR0–7 as last driven.</summary>
    public byte Inputs { get; set; }
    public byte EdgeLatch { get; set; }
    public byte Isr { get; set; }
    public byte Imr { get; set; }
    public byte Elcr { get; set; }
    public byte VectorBase { get; set; }
    public byte LowestPriority { get; set; } = 7;

    /// <summary>Next initialization command word: 2, 3, 4; 0 = initialised.</summary>
    public byte NextIcw { get; set; }
    public bool NeedsIcw4 { get; set; }
    public bool Single { get; set; }
    public bool Ltim { get; set; }
    public bool Aeoi { get; set; }
    public bool RotateInAeoi { get; set; }
    public bool SpecialFullyNested { get; set; }
    public bool SpecialMask { get; set; }
    public bool Poll { get; set; }
    public bool ReadIsr { get; set; }
}
