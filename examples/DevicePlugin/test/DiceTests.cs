using System.Text.Json.Nodes;
using VirtPS.Sdk.Devices;
using VirtPS.Sdk.Testing;
using Xunit;

namespace Acme.Dice.Tests;

public sealed class DiceTests
{
    private static IDevice Create(TestMachine machine) =>
        new DicePlugin().DeviceFactories.Single().Create(JsonNode.Parse("""{"seed":42}""")!.AsObject(), machine);

    [Fact]
    public void A_roll_takes_a_millisecond_and_interrupts_until_it_is_read()
    {
        TestMachine machine = new();
        using IDevice dice = Create(machine);
        machine.Out(0x300, 0);
        Assert.Equal(1u, machine.In(0x301));
        machine.Advance(999_999);
        Assert.False(machine.Isa(5).Level);
        machine.Advance(1);
        Assert.True(machine.Isa(5).Level);
        Assert.InRange(machine.In(0x300), 1u, 6u);
        Assert.False(machine.Isa(5).Level);
    }

    [Fact]
    public void Saved_while_rolling_it_continues_identically() => SaveRestoreCheck.ContinuesIdentically(
        () => new TestMachine(),
        Create,
        machine =>
        {
            machine.Out(0x300, 0);
            machine.Advance(2_000_000);
            machine.Out(0x300, 0);
            machine.Advance(300_000);
        },
        machine =>
        {
            for (int i = 0; i < 10; i++)
            {
                machine.Advance(1_000_000);
                machine.In(0x300);
                machine.In(0x301);
                machine.Out(0x300, 0);
            }
        });
}
