using System.Text.Json.Nodes;
using VirtPS.Sdk.Devices;

namespace VirtPS.Sdk.Testing;

/// <summary>
/// Proves of a device: saved in mid-operation and restored into a fresh machine, it goes on exactly as if nothing had happened. The guest's play after the save
/// is traced on the original and on the restored device and must be the same to the nanosecond.
/// </summary>
public static class SaveRestoreCheck
{
    /// <param name="newMachine">A machine before power-on; called for each device needed.</param>
    /// <param name="create">Makes the device under test in it.</param>
    /// <param name="before">Brings the device into mid-operation.</param>
    /// <param name="after">Goes on; should read everything that <paramref name="before"/> left behind.</param>
    /// <exception cref="InvalidOperationException">What differs; or that the play would look the same on a device that was not restored at all, so that it proves nothing.</exception>
    public static void ContinuesIdentically(
        Func<TestMachine> newMachine, Func<TestMachine, IDevice> create, Action<TestMachine> before, Action<TestMachine> after)
    {
        TestMachine original = newMachine();
        using IDevice device = create(original);
        before(original);
        device.Quiesce();
        DeviceState saved = device.Save();
        device.Resume();
        // Through text, as on disk: what the DTO cannot carry must be lost here, not later.
        DeviceState onDisk = saved with { Data = JsonNode.Parse(saved.Data.ToJsonString())! };

        TestMachine copy = newMachine();
        copy.Time.AdvanceTo(original.Time.Now);
        using IDevice restored = create(copy);
        restored.Restore(onDisk);
        restored.Resume();
        RequireSame("Saved state changes in a save-restore-save turn", [saved.Data.ToJsonString()], [restored.Save().Data.ToJsonString()]);
        RequireSame("Interrupt lines after restore", original.Levels(), copy.Levels());
        ulong savedAt = original.Time.Now;
        RequireSame("Trace after restore", Play(original, after), Play(copy, after));
        RequireSame("State after going on", [device.Save().Data.ToJsonString()], [restored.Save().Data.ToJsonString()]);

        TestMachine blank = newMachine();
        blank.Time.AdvanceTo(savedAt);
        using IDevice fresh = create(blank);
        if (Play(blank, after).SequenceEqual(original.Trace))
            throw new InvalidOperationException("A device that was never restored gives the same trace: the play after the save observes nothing that was saved.");
    }

    private static IReadOnlyList<string> Play(TestMachine machine, Action<TestMachine> after)
    {
        machine.ClearTrace();
        after(machine);
        return machine.Trace;
    }

    private static void RequireSame(string what, IReadOnlyList<string> expected, IReadOnlyList<string> actual)
    {
        for (int i = 0; i < Math.Max(expected.Count, actual.Count); i++)
        {
            string e = i < expected.Count ? expected[i] : "(end)", a = i < actual.Count ? actual[i] : "(end)";
            if (e != a)
                throw new InvalidOperationException($"{what}: entry {i} is\n  {a}\ninstead of\n  {e}");
        }
    }
}
