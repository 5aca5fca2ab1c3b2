using System.Management.Automation;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtRegister: the registers of a virtual processor, taken between two instructions.</summary>
[Cmdlet(VerbsCommon.Get, "VirtRegister", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtRegister), typeof(VirtRegisterSet))]
public sealed class GetVirtRegister : VirtVMCmdlet
{
    [Parameter]
    public int Vcpu { get; set; }

    /// <summary>Names of registers; wildcards are allowed.</summary>
    [Parameter(Position = 1)]
    [SupportsWildcards]
    public string[] Register { get; set; } = [];

    /// <summary>Groups of registers. Without -Group and -Register: all but Fpu, Simd and Msr.</summary>
    [Parameter]
    public RegisterGroup[] Group { get; set; } = [];

    /// <summary>One object with all registers instead of one per register.</summary>
    [Parameter]
    public SwitchParameter AsSet { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        VirtRegisterSet set = Await(token => VirtHost.GetRegistersAsync(vm.Id, Vcpu, token));
        if (AsSet)
            WriteObject(set);
        else
            WriteObject(set.Registers.Where(Wanted), enumerateCollection: true);
    }

    private bool Wanted(VirtRegister register)
    {
        if (Group.Length == 0 && Register.Length == 0)
            return register.Group is not (RegisterGroup.Fpu or RegisterGroup.Simd or RegisterGroup.Msr);
        return (Group.Length == 0 || Group.Contains(register.Group))
            && (Register.Length == 0 || Register.Any(n => new WildcardPattern(n, WildcardOptions.IgnoreCase).IsMatch(register.Name)));
    }
}

/// <summary>Get-VirtGuestMemory: a piece of guest memory, physical or through a processor's page tables.</summary>
[Cmdlet(VerbsCommon.Get, "VirtGuestMemory", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtGuestMemory), typeof(byte[]))]
public sealed class GetVirtGuestMemory : VirtVMCmdlet
{
    [Parameter(Mandatory = true, Position = 1)]
    public ulong Address { get; set; }

    /// <summary>Bytes.</summary>
    [Parameter(Position = 2)]
    [ValidateRange(1, 64 << 20)]
    public int Length { get; set; } = 256;

    [Parameter]
    public GuestAddressSpace AddressSpace { get; set; } = GuestAddressSpace.Physical;

    /// <summary>Whose page tables, for linear addresses.</summary>
    [Parameter]
    public int Vcpu { get; set; }

    /// <summary>Only the bytes.</summary>
    [Parameter]
    public SwitchParameter Raw { get; set; }

    private protected override void Process(VirtualMachine vm)
    {
        VirtGuestMemory piece = Await(token => VirtHost.ReadGuestMemoryAsync(vm.Id, Address, Length, AddressSpace, Vcpu, token));
        if (Raw)
            WriteObject(piece.Bytes.ToArray(), enumerateCollection: false);
        else
            WriteObject(piece);
    }
}

/// <summary>Get-VirtDisassembly: instructions from an address, or from where the processor stands.</summary>
[Cmdlet(VerbsCommon.Get, "VirtDisassembly", DefaultParameterSetName = NameSet)]
[OutputType(typeof(VirtDisassemblyLine))]
public sealed class GetVirtDisassembly : VirtVMCmdlet
{
    /// <summary>Linear address; without it the processor's present instruction.</summary>
    [Parameter(Position = 1)]
    public ulong? Address { get; set; }

    /// <summary>Instructions.</summary>
    [Parameter(Position = 2)]
    [ValidateRange(1, 10000)]
    public int Count { get; set; } = 16;

    [Parameter]
    public int Vcpu { get; set; }

    private protected override void Process(VirtualMachine vm) =>
        WriteObject(Await(token => VirtHost.DisassembleAsync(vm.Id, Address, Count, Vcpu, token)), enumerateCollection: true);
}
