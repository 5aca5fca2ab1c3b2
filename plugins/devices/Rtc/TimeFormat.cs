namespace VirtPS.Device.Rtc;

/// <summary>Calendar time as the eight time bytes show it: BCD or binary, 12 or 24 hours (register B, DM and 24/12).</summary>
internal static class TimeFormat
{
    public const int ByteCount = 8;

    /// <summary>Positions in the eight bytes.</summary>
    public const int Second = 0, Minute = 1, Hour = 2, DayOfWeek = 3, Day = 4, Month = 5, Year = 6, Century = 7;

    /// <param name="seconds">Seconds since 0001-01-01, the proleptic Gregorian calendar's start.</param>
    /// <param name="dayShift">What the guest set the day of the week off by.</param>
    /// <param name="control">Register B.</param>
    public static byte[] Encode(long seconds, int dayShift, byte control)
    {
        DateTime t = new(seconds * TimeSpan.TicksPerSecond, DateTimeKind.Utc);
        return
        [
            Digits(t.Second, control), Digits(t.Minute, control), EncodeHour(t.Hour, control), Digits((((int)t.DayOfWeek + dayShift) % 7) + 1, control),
            Digits(t.Day, control), Digits(t.Month, control), Digits(t.Year % 100, control), Digits(t.Year / 100, control),
        ];
    }

    /// <summary>
    /// The calendar time that bytes stand for. Values out of range carry over (31 February is 2 or 3 March), as a guest may write the bytes in any order.
    /// </summary>
    public static (long Seconds, int DayShift) Decode(ReadOnlySpan<byte> bytes, byte control)
    {
        int year = Math.Clamp((Value(bytes[Century], control) * 100) + Value(bytes[Year], control), 1, 9998);
        int month = Math.Clamp(Value(bytes[Month], control), 1, 12);
        DateTime t = new DateTime(year, month, 1, 0, 0, 0, DateTimeKind.Utc)
            .AddDays(Math.Max(0, Value(bytes[Day], control) - 1))
            .AddHours(DecodeHour(bytes[Hour], control))
            .AddMinutes(Value(bytes[Minute], control))
            .AddSeconds(Value(bytes[Second], control));
        int dayShift = (Value(bytes[DayOfWeek], control) - 1 - (int)t.DayOfWeek + 14) % 7;
        return (t.Ticks / TimeSpan.TicksPerSecond, (dayShift + 7) % 7);
    }

    private static byte EncodeHour(int hour, byte control)
    {
        if ((control & RegB.Hours24) != 0)
            return Digits(hour, control);
        int twelve = hour % 12 == 0 ? 12 : hour % 12;
        return (byte)(Digits(twelve, control) | (hour >= 12 ? 0x80 : 0));
    }

    private static int DecodeHour(byte value, byte control) => (control & RegB.Hours24) != 0
        ? Value(value, control)
        : (Value((byte)(value & 0x7F), control) % 12) + ((value & 0x80) != 0 ? 12 : 0);

    private static byte Digits(int value, byte control) => (byte)((control & RegB.Binary) != 0 ? value : (value / 10 << 4) | (value % 10));

    private static int Value(byte digits, byte control) => (control & RegB.Binary) != 0 ? digits : ((digits >> 4) * 10) + (digits & 0xF);
}
