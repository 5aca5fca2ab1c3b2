using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using VirtPS.Sdk;

namespace VirtPS.Devices.Tests;

/// <summary>A device's spec reads as the serialiser reads it, whichever way is taken.</summary>
public sealed class SpecTests
{
    public enum Colour
    {
        Red,
        Green,
    }

    public sealed class Plain
    {
        public int Number { get; set; } = 7;
        public uint Unsigned { get; set; }
        public ulong Wide { get; set; }
        public byte Small { get; set; }
        public bool Flag { get; set; } = true;
        public string? Text { get; set; } = "text";
        public int? Maybe { get; init; } = 3;
        public string Fixed { get; private set; } = "fixed";
        public string Derived => Fixed;
    }

    public sealed class Rich
    {
        public int Field;
        public Colour Colour { get; set; }
        public int[] Numbers { get; set; } = [];
        public double Fraction { get; set; }
        public Plain? Inner { get; set; }
    }

    public sealed class Renamed
    {
        [JsonPropertyName("other")]
        public int Number { get; set; }

        [JsonIgnore]
        public int Ignored { get; set; }
    }

    private sealed class Factory<TSpec> : DeviceFactory<TSpec> where TSpec : class, new()
    {
        public TSpec? Read { get; private set; }

        public override string Model => "model";

        protected override IDevice Create(TSpec spec, DeviceContext context)
        {
            Read = spec;
            return null!;
        }
    }

    [Theory]
    [InlineData("{}")]
    [InlineData("""{"model":"a/b","name":"n","unknown":[1,{"x":2}]}""")]
    [InlineData("""{"number":-5,"UNSIGNED":4294967295,"wide":18446744073709551615,"small":255,"flag":false,"text":"é","maybe":null}""")]
    [InlineData("""{"number":"12","text":null}""")]
    [InlineData("""{"maybe":9,"fixed":"changed","derived":"changed"}""")]
    [InlineData("""{"number":1.0}""")]
    [InlineData("""{"number":1e2}""")]
    [InlineData("""{"number":2147483648}""")]
    [InlineData("""{"small":256}""")]
    [InlineData("""{"unsigned":-1}""")]
    [InlineData("""{"number":null}""")]
    [InlineData("""{"flag":"true"}""")]
    [InlineData("""{"flag":1}""")]
    [InlineData("""{"text":5}""")]
    [InlineData("""{"text":{}}""")]
    public void Plain_specs_read_as_the_serialiser_reads_them(string json) => Compare<Plain>(JsonNode.Parse(json)!.AsObject());

    [Theory]
    [InlineData("{}")]
    [InlineData("""{"field":4,"colour":"green","numbers":[1,2],"fraction":1.5,"inner":{"number":3}}""")]
    [InlineData("""{"colour":1}""")]
    [InlineData("""{"numbers":"one"}""")]
    public void Other_specs_do_too(string json) => Compare<Rich>(JsonNode.Parse(json)!.AsObject());

    [Theory]
    [InlineData("""{"number":1,"other":2,"ignored":3}""")]
    public void Attributes_hold(string json) => Compare<Renamed>(JsonNode.Parse(json)!.AsObject());

    [Fact]
    public void Specs_made_in_memory_do_too() => Compare<Plain>(new JsonObject { ["number"] = 5, ["wide"] = 6ul, ["flag"] = false, ["text"] = "t", ["small"] = (byte)3, ["maybe"] = 8L });

    private static void Compare<TSpec>(JsonObject spec) where TSpec : class, new()
    {
        TSpec? expected = null;
        try
        {
            expected = JsonSerializer.Deserialize<TSpec>(spec, DeviceJson.Options);
        }
        catch (JsonException)
        {
        }

        var factory = new Factory<TSpec>();
        var machine = new TestMachine();
        if (expected is null)
        {
            Assert.Equal("DevicePropertyInvalid", Assert.Throws<VirtException>(() => factory.Create(spec, machine)).ErrorId);
            return;
        }

        factory.Create(spec, machine);
        Assert.Equal(JsonSerializer.Serialize(expected, DeviceJson.Options), JsonSerializer.Serialize(factory.Read, DeviceJson.Options));
    }
}
