namespace VirtPS.Sdk.Machine;

/// <summary>What a guest on a PC is told of being virtual, so that it asks the VMM instead of being caught.</summary>
public enum Enlightenment
{
    /// <summary>A bare PC.</summary>
    None,

    /// <summary>KVM's paravirtual interface: clock, steal time, end of interrupt, hypercalls.</summary>
    Kvm,
}
