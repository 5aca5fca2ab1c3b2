using System.Management.Automation;
using VirtPS.Infrastructure;
using VirtPS.Sdk.Machine;

namespace VirtPS.Commands;

/// <summary>Get-VirtHost: this host, the store and the module's version.</summary>
[Cmdlet(VerbsCommon.Get, "VirtHost")]
[OutputType(typeof(VirtHostInfo))]
public sealed class GetVirtHost : VirtCmdlet
{
    protected override void ProcessRecord() => Terminating(() => WriteObject(Await(token => VirtHost.GetHostInfoAsync(token))));
}

/// <summary>Test-VirtHost: what this host can run, and what to do about the rest.</summary>
[Cmdlet(VerbsDiagnostic.Test, "VirtHost")]
[OutputType(typeof(VirtHostTest), typeof(bool))]
public sealed class TestVirtHost : VirtCmdlet
{
    /// <summary>Only true (nothing failed) or false.</summary>
    [Parameter]
    public SwitchParameter Quiet { get; set; }

    protected override void ProcessRecord() => Terminating(() =>
    {
        bool good = true;
        foreach (VirtHostTest test in Stream(token => VirtHost.TestHostAsync(token)))
        {
            good &= test.Result != HostTestResult.Fail;
            if (!Quiet)
                WriteObject(test);
        }

        if (Quiet)
            WriteObject(good);
    });
}
