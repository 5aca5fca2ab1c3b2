using System.Globalization;
using System.Management.Automation;
using Microsoft.PowerShell.Commands;

namespace VirtPS.Shell.Commands.Utility;

/// <summary>Start-Sleep. Ctrl-C ends it at once.</summary>
[Cmdlet(VerbsLifecycle.Start, "Sleep", DefaultParameterSetName = "Seconds")]
public sealed class StartSleepCommand : PSCmdlet, IDisposable
{
    private readonly CancellationTokenSource _stop = new();

    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "Seconds")]
    [ValidateRange(0.0, int.MaxValue / 1000)]
    public double Seconds { get; set; }

    [Alias("ms")]
    [Parameter(Mandatory = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "Milliseconds")]
    [ValidateRange(0, int.MaxValue)]
    public int Milliseconds { get; set; }

    [Alias("ts")]
    [Parameter(Position = 0, Mandatory = true, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "FromTimeSpan")]
    public TimeSpan Duration { get; set; }

    protected override void ProcessRecord()
    {
        TimeSpan time = ParameterSetName switch
        {
            "Seconds" => TimeSpan.FromSeconds(Seconds),
            "Milliseconds" => TimeSpan.FromMilliseconds(Milliseconds),
            _ => Duration,
        };
        _stop.Token.WaitHandle.WaitOne(time);
    }

    protected override void StopProcessing() => _stop.Cancel();

    public void Dispose() => _stop.Dispose();
}

/// <summary>Get-Date.</summary>
[Cmdlet(VerbsCommon.Get, "Date", DefaultParameterSetName = "DateAndFormat")]
[OutputType(typeof(DateTime), typeof(string))]
public sealed class GetDateCommand : PSCmdlet
{
    [Alias("LastWriteTime")]
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true)]
    public DateTime Date { get; set; }

    [Alias("UnixTime")]
    [Parameter]
    public long UnixTimeSeconds { get; set; }

    [Parameter]
    [ValidateRange(1, 9999)]
    public int Year { get; set; }

    [Parameter]
    [ValidateRange(1, 12)]
    public int Month { get; set; }

    [Parameter]
    [ValidateRange(1, 31)]
    public int Day { get; set; }

    [Parameter]
    [ValidateRange(0, 23)]
    public int Hour { get; set; }

    [Parameter]
    [ValidateRange(0, 59)]
    public int Minute { get; set; }

    [Parameter]
    [ValidateRange(0, 59)]
    public int Second { get; set; }

    [Parameter]
    [ValidateRange(0, 999)]
    public int Millisecond { get; set; }

    [Parameter]
    public DisplayHintType DisplayHint { get; set; } = DisplayHintType.DateTime;

    [Parameter]
    [ArgumentCompletions("FileDate", "FileDateUniversal", "FileDateTime", "FileDateTimeUniversal")]
    public string? Format { get; set; }

    [Parameter]
    public string? UFormat { get; set; }

    [Parameter]
    public SwitchParameter AsUTC { get; set; }

    private bool Given(string name) => MyInvocation.BoundParameters.ContainsKey(name);

    protected override void ProcessRecord()
    {
        DateTime time = Given(nameof(Date)) ? Date
            : Given(nameof(UnixTimeSeconds)) ? DateTimeOffset.FromUnixTimeSeconds(UnixTimeSeconds).LocalDateTime
            : DateTime.Now;
        time = time.AddYears(Given(nameof(Year)) ? Year - time.Year : 0)
            .AddMonths(Given(nameof(Month)) ? Month - time.Month : 0)
            .AddDays(Given(nameof(Day)) ? Day - time.Day : 0)
            .AddHours(Given(nameof(Hour)) ? Hour - time.Hour : 0)
            .AddMinutes(Given(nameof(Minute)) ? Minute - time.Minute : 0)
            .AddSeconds(Given(nameof(Second)) ? Second - time.Second : 0);
        if (Given(nameof(Millisecond)))
        {
            time = time.AddMilliseconds(Millisecond - time.Millisecond);
            time = time.AddTicks(-(time.Ticks % TimeSpan.TicksPerMillisecond));
        }
        if (AsUTC)
        {
            time = time.ToUniversalTime();
        }
        if (UFormat is not null)
        {
            WriteObject(UnixDateFormat.Format(time, UFormat));
        }
        else if (Format is not null)
        {
            WriteObject(Formatted(time));
        }
        else
        {
            PSObject result = new(time);
            result.Properties.Add(new PSNoteProperty("DisplayHint", DisplayHint));
            WriteObject(result);
        }
    }

    private string Formatted(DateTime time) => Format!.ToUpperInvariant() switch
    {
        "FILEDATE" => time.ToString("yyyyMMdd", CultureInfo.InvariantCulture),
        "FILEDATEUNIVERSAL" => time.ToUniversalTime().ToString("yyyyMMdd'Z'", CultureInfo.InvariantCulture),
        "FILEDATETIME" => time.ToString("yyyyMMdd'T'HHmmssffff", CultureInfo.InvariantCulture),
        "FILEDATETIMEUNIVERSAL" => time.ToUniversalTime().ToString("yyyyMMdd'T'HHmmssffff'Z'", CultureInfo.InvariantCulture),
        _ => time.ToString(Format, CultureInfo.CurrentCulture),
    };
}

/// <summary>strftime's formats, as <c>-UFormat</c> takes them.</summary>
internal static class UnixDateFormat
{
    public static string Format(DateTime time, string format)
    {
        var text = new System.Text.StringBuilder();
        string pattern = format.StartsWith('+') ? format[1..] : format;
        for (int i = 0; i < pattern.Length; i++)
        {
            if (pattern[i] != '%' || i + 1 == pattern.Length)
            {
                text.Append(pattern[i]);
                continue;
            }
            text.Append(One(time, pattern[++i]));
        }
        return text.ToString();
    }

    private static string One(DateTime time, char code)
    {
        CultureInfo culture = CultureInfo.CurrentCulture;
        string Net(string net) => time.ToString(net, culture);
        return code switch
        {
            'A' => Net("dddd"), 'a' => Net("ddd"), 'B' => Net("MMMM"), 'b' or 'h' => Net("MMM"),
            'C' => (time.Year / 100).ToString("00", culture), 'c' => Net("ddd dd MMM yyyy HH:mm:ss"),
            'D' or 'x' => time.ToString("MM/dd/yy", CultureInfo.InvariantCulture), 'd' => Net("dd"), 'e' => $"{time.Day,2}",
            'F' => Net("yyyy-MM-dd"), 'H' => Net("HH"), 'I' => Net("hh"), 'j' => time.DayOfYear.ToString("000", culture),
            'k' => $"{time.Hour,2}", 'l' => $"{(time.Hour + 11) % 12 + 1,2}", 'M' => Net("mm"), 'm' => Net("MM"), 'n' => "\n",
            'p' => time.Hour < 12 ? "AM" : "PM", 'R' => Net("HH:mm"), 'r' => time.ToString("hh:mm:ss tt", CultureInfo.InvariantCulture), 'S' => Net("ss"),
            's' => new DateTimeOffset(time).ToUnixTimeSeconds().ToString(culture), 'T' or 'X' => Net("HH:mm:ss"), 't' => "\t",
            'u' => (time.DayOfWeek == DayOfWeek.Sunday ? 7 : (int)time.DayOfWeek).ToString(culture), 'w' => ((int)time.DayOfWeek).ToString(culture),
            'V' => ISOWeek.GetWeekOfYear(time).ToString("00", culture), 'G' => ISOWeek.GetYear(time).ToString(culture),
            'Y' => Net("yyyy"), 'y' => Net("yy"), 'Z' => Net("%K"), '%' => "%",
            _ => "%" + code,
        };
    }
}

/// <summary>New-TimeSpan.</summary>
[Cmdlet(VerbsCommon.New, "TimeSpan", DefaultParameterSetName = "Date")]
[OutputType(typeof(TimeSpan))]
public sealed class NewTimeSpanCommand : PSCmdlet
{
    [Alias("LastWriteTime")]
    [Parameter(Position = 0, ValueFromPipeline = true, ValueFromPipelineByPropertyName = true, ParameterSetName = "Date")]
    public DateTime? Start { get; set; }

    [Parameter(Position = 1, ValueFromPipelineByPropertyName = true, ParameterSetName = "Date")]
    public DateTime? End { get; set; }

    [Parameter(ParameterSetName = "Time")]
    public int Days { get; set; }

    [Parameter(ParameterSetName = "Time")]
    public int Hours { get; set; }

    [Parameter(ParameterSetName = "Time")]
    public int Minutes { get; set; }

    [Parameter(ParameterSetName = "Time")]
    public int Seconds { get; set; }

    [Parameter(ParameterSetName = "Time")]
    public int Milliseconds { get; set; }

    protected override void ProcessRecord()
    {
        DateTime now = DateTime.Now;
        WriteObject(ParameterSetName == "Time" ? new TimeSpan(Days, Hours, Minutes, Seconds, Milliseconds) : (End ?? now) - (Start ?? now));
    }
}
