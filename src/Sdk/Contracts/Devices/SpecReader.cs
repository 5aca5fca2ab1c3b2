using System.Globalization;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace VirtPS.Sdk.Devices;

/// <summary>
/// Reads specs that have nothing but flags, whole numbers and texts, as nearly all have. The serialiser reads them the same, but when first used it costs a machine's start
/// some 30 ms; it remains for all other specs, and for those with a mistake in them, because it says what is wrong.
/// </summary>
internal static class SpecReader
{
    private const BindingFlags Members = BindingFlags.Public | BindingFlags.Instance | BindingFlags.IgnoreCase;

    /// <summary>The spec as the serialiser would read it with <see cref="DeviceJson.Options"/>; null: that is to be asked.</summary>
    public static TSpec? TryRead<TSpec>(JsonObject spec) where TSpec : class, new()
    {
        if (AsksForSerializer(typeof(TSpec)) || Array.Exists(typeof(TSpec).GetProperties(), AsksForSerializer))
            return null;
        var result = new TSpec();
        foreach ((string name, JsonNode? value) in spec)
        {
            switch (typeof(TSpec).GetMember(name, Members))
            {
                case []:
                    break;
                case [PropertyInfo { SetMethod.IsPublic: true } property] when TryConvert(value, property.PropertyType, out object? converted):
                    property.SetValue(result, converted);
                    break;
                default:
                    return null;
            }
        }

        return result;
    }

    private static bool AsksForSerializer(MemberInfo member)
    {
        foreach (CustomAttributeData attribute in member.CustomAttributes)
        {
            if (attribute.AttributeType.Namespace == "System.Text.Json.Serialization")
                return true;
        }

        return false;
    }

    private static bool TryConvert(JsonNode? value, Type type, out object? result)
    {
        result = null;
        Type? nullable = Nullable.GetUnderlyingType(type);
        if (value is null)
            return nullable is not null || type == typeof(string);
        type = nullable ?? type;
        if (type.IsEnum)
            return false;
        result = (value.GetValueKind(), Type.GetTypeCode(type)) switch
        {
            (JsonValueKind.String, TypeCode.String) => value.GetValue<string>(),
            (JsonValueKind.True, TypeCode.Boolean) => true,
            (JsonValueKind.False, TypeCode.Boolean) => false,
            (JsonValueKind.Number, TypeCode code) => ToWholeNumber(value.ToJsonString(), code),
            _ => null,
        };
        return result is not null;
    }

    private static object? ToWholeNumber(string text, TypeCode code)
    {
        const NumberStyles Style = NumberStyles.AllowLeadingSign;
        CultureInfo culture = CultureInfo.InvariantCulture;
        return code switch
        {
            TypeCode.Byte => byte.TryParse(text, Style, culture, out byte n) ? n : null,
            TypeCode.UInt16 => ushort.TryParse(text, Style, culture, out ushort n) ? n : null,
            TypeCode.Int32 => int.TryParse(text, Style, culture, out int n) ? n : null,
            TypeCode.UInt32 => uint.TryParse(text, Style, culture, out uint n) ? n : null,
            TypeCode.Int64 => long.TryParse(text, Style, culture, out long n) ? n : null,
            TypeCode.UInt64 => ulong.TryParse(text, Style, culture, out ulong n) ? n : null,
            _ => null,
        };
    }
}
