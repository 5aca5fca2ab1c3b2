using System.Globalization;
using System.Management.Automation;
using System.Text;

namespace VirtPS.Shell.Commands.Support;

/// <summary>The encodings that -Encoding names, with PowerShell's names. The default is UTF-8 without a byte order mark.</summary>
internal static class TextEncodings
{
    public static readonly string[] Names =
        ["ascii", "ansi", "bigendianunicode", "bigendianutf32", "oem", "unicode", "utf7", "utf8", "utf8BOM", "utf8NoBOM", "utf32"];

    public static Encoding Default { get; } = new UTF8Encoding(encoderShouldEmitUTF8Identifier: false);

    /// <summary>An encoding by name or code page number; null when there is none such.</summary>
    public static Encoding? Find(string name) => name.ToUpperInvariant() switch
    {
        "ASCII" => Encoding.ASCII,
        "UNICODE" or "STRING" => Encoding.Unicode,
        "BIGENDIANUNICODE" => Encoding.BigEndianUnicode,
        "BIGENDIANUTF32" => new UTF32Encoding(bigEndian: true, byteOrderMark: true),
        "UTF32" => Encoding.UTF32,
        "UTF8BOM" => new UTF8Encoding(encoderShouldEmitUTF8Identifier: true),
        "UTF8" or "UTF8NOBOM" or "DEFAULT" or "OEM" or "ANSI" => Default,
        _ => ByRegistry(name),
    };

    private static Encoding? ByRegistry(string name)
    {
        try
        {
            return int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out int codePage)
                ? Encoding.GetEncoding(codePage)
                : Encoding.GetEncoding(name);
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            return null;
        }
    }
}

/// <summary>Turns an encoding's name or code page into the encoding.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class ArgumentToEncodingAttribute : ArgumentTransformationAttribute
{
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        object value = inputData is PSObject wrapped ? wrapped.BaseObject : inputData;
        if (value is Encoding)
        {
            return value;
        }
        string name = Convert.ToString(value, CultureInfo.InvariantCulture) ?? "";
        return TextEncodings.Find(name)
            ?? throw new ArgumentTransformationMetadataException($"'{name}' is not an encoding. Known names: {string.Join(", ", TextEncodings.Names)}.");
    }
}

/// <summary>Completes -Encoding.</summary>
[AttributeUsage(AttributeTargets.Property)]
internal sealed class EncodingCompletionsAttribute : ArgumentCompletionsAttribute
{
    public EncodingCompletionsAttribute()
        : base(TextEncodings.Names)
    {
    }
}
