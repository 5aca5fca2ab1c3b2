using System.Text.Json.Nodes;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Engine;

/// <summary>Which device models make the PC: data, so that the engine knows no device by type. Places come from the models' defaults (<see cref="Sdk.Machine.PcLayout"/>).</summary>
public static class PlatformLayout
{
    /// <summary>
    /// The specs of a PC, in the order in which they must be made: who offers a service stands before who needs it.
    /// </summary>
    /// <param name="vcpuCount">A local APIC for each.</param>
    /// <param name="hasInterruptController">The partition has its own PIC, IOAPIC, local APICs and 8254.</param>
    /// <param name="cpuid">Says which of the local APIC's features the guest is offered (CPUID.1:ECX).</param>
    public static IReadOnlyList<JsonObject> Pc(int vcpuCount, bool hasInterruptController, CpuidPolicy cpuid)
    {
        const int X2ApicBit = 21, TscDeadlineBit = 24;
        uint features = cpuid.Query(1, 0).Ecx;
        List<JsonObject> specs = [];
        if (!hasInterruptController)
        {
            for (int i = 0; i < vcpuCount; i++)
            {
                JsonObject spec = Spec("virtps.localapic/lapic", $"lapic{i}");
                spec["vcpu"] = i;
                spec["x2apic"] = (features >> X2ApicBit & 1) != 0;
                spec["tscDeadline"] = (features >> TscDeadlineBit & 1) != 0;
                specs.Add(spec);
            }

            specs.Add(Spec("virtps.pic/8259a", "pic"));
            specs.Add(Spec("virtps.ioapic/ioapic", "ioapic"));
        }

        specs.Add(Spec("virtps.pcihost/host-bridge", "pcihost"));
        if (!hasInterruptController)
            specs.Add(Spec("virtps.pit/8254", "pit"));
        specs.Add(Spec("virtps.rtc/mc146818", "rtc"));
        specs.Add(Spec("virtps.i8042/i8042", "i8042"));
        specs.Add(Spec("virtps.acpi/pm", "acpi"));
        specs.Add(Spec("virtps.serial/16550a", "com1"));
        specs.Add(Spec("virtps.debugexit/debug-exit", "debugexit"));
        return specs;
    }

    /// <summary>
    /// The platform's specs with the user's: one with the name of a platform device takes that device's place, the others follow.
    /// </summary>
    public static IReadOnlyList<JsonObject> Merge(IReadOnlyList<JsonObject> platform, IReadOnlyList<JsonObject> devices)
    {
        List<JsonObject> result = [.. platform];
        foreach (JsonObject device in devices)
        {
            string? name = (string?)device["name"];
            int place = name is null ? -1 : result.FindIndex(p => (string?)p["name"] == name && platform.Contains(p));
            if (place >= 0)
                result[place] = device;
            else
                result.Add(device);
        }

        return result;
    }

    private static JsonObject Spec(string model, string name) => new() { ["model"] = model, ["name"] = name };
}
