using System.Globalization;
using System.Management.Automation;

namespace VirtPS.Transformations;

/// <summary>Takes 512MB, '512MB', '512 MiB', 536870912 as bytes; PowerShell's MB is 2^20 and so is ours.</summary>
[AttributeUsage(AttributeTargets.Property | AttributeTargets.Field)]
public sealed class SizeTransformationAttribute : ArgumentTransformationAttribute
{
    public override object Transform(EngineIntrinsics engineIntrinsics, object inputData)
    {
        object raw = inputData is PSObject wrapped ? wrapped.BaseObject : inputData;
        if (raw is not string text)
            return raw;
        string trimmed = text.Trim();
        int digits = trimmed.TakeWhile(c => char.IsAsciiDigit(c) || c == '.').Count();
        string unit = trimmed[digits..].Trim().ToUpperInvariant();
        ulong? scale = unit switch
        {
            "" or "B" => 1,
            "KB" or "K" or "KIB" => 1ul << 10,
            "MB" or "M" or "MIB" => 1ul << 20,
            "GB" or "G" or "GIB" => 1ul << 30,
            "TB" or "T" or "TIB" => 1ul << 40,
            _ => null,
        };
        if (scale is not { } factor || !decimal.TryParse(trimmed[..digits], NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out decimal number)
            || number * factor > ulong.MaxValue)
        {
            throw new ArgumentTransformationMetadataException($"'{text}' is not a size. Write bytes or a number with KB, MB, GB or TB: 512MB.");
        }

        return (ulong)(number * factor);
    }
}
