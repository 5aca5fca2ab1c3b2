<#
.SYNOPSIS
    From nothing to an operating system in a virtual machine, and its protection rings as objects.
.DESCRIPTION
    First the embedded guest, which needs no download and uses all four rings of the processor. Then Debian's own kernel and busybox,
    fetched through apt where there is apt. Everything this script makes it removes again.
.EXAMPLE
    dotnet run --project src/Shell -- examples/quickstart.ps1
.EXAMPLE
    ./quickstart.ps1 -Kernel ./vmlinuz -Busybox ./busybox
#>
param(
    [string] $Kernel,
    [string] $Busybox,
    [int] $Timeout = 120
)

$ErrorActionPreference = 'Stop'
Import-Module VirtPS
$suffix = Get-Random -Maximum 99999
$lab = "quickstart-ringlab-$suffix"
$linux = "quickstart-debian-$suffix"

function Write-Step([string] $Text) { Write-Host ''; Write-Host "== $Text" -ForegroundColor Cyan }

try {
    Write-Step 'This host'
    Get-VirtStrategy | Format-Table Name, IsSupported, Reason -Wrap

    Write-Step 'ringlab: a small kernel of our own that uses all four protection rings'
    $null = New-VirtVM -Name $lab -Memory 32MB -Strategy Full
    Start-VirtVM -Name $lab
    Wait-VirtVM -Name $lab -For Console -Pattern 'RINGLAB-OK' -Timeout 30
    Receive-VirtConsole -Name $lab
    Write-Host ''
    Write-Host 'Its system calls, as they happen:'
    Trace-VirtRing -Name $lab -MaxEvents 8 -Timeout 10 | Format-Table
    Show-VirtRing -Name $lab
    Stop-VirtVM -Name $lab -TurnOff -Force

    Write-Step 'Debian: the stock cloud kernel, unmodified'
    try {
        if (-not $Kernel) { $Kernel = (Save-VirtImage -Name debian-cloud-kernel -PassThru).Path }
        if (-not $Busybox) { $Busybox = (Save-VirtImage -Name busybox -PassThru).Path }
    }
    catch {
        Write-Host "No kernel could be fetched: $_"
        Write-Host 'Point this script at a kernel and a static busybox: quickstart.ps1 -Kernel ./vmlinuz -Busybox ./busybox'
        return
    }

    Write-Host "Kernel:  $Kernel"
    $initrd = Join-Path ([IO.Path]::GetTempPath()) "virtps-quickstart-$suffix.cpio.gz"
    $null = New-VirtInitrd -Path $initrd -Busybox $Busybox
    $null = New-VirtVM -Name $linux -Kernel $Kernel -Initrd $initrd -CommandLine 'console=ttyS0 panic=-1' -Memory 512MB -Strategy Full
    $watch = [Diagnostics.Stopwatch]::StartNew()
    Start-VirtVM -Name $linux
    # The loop that runs once gives 'break' something to leave: it ends the pipeline and so the following.
    do {
        Receive-VirtConsole -Name $linux -Wait | ForEach-Object {
            $_ | Out-Host
            if ($_ -match 'GUEST-READY') { break }
            if ($watch.Elapsed.TotalSeconds -gt $Timeout) { throw "The kernel did not reach user space within $Timeout s." }
        }
    } while ($false)
    Write-Host ''
    Write-Host ('Power-on to user space: {0:0.0} s' -f $watch.Elapsed.TotalSeconds)

    Write-Step 'Its rings'
    Get-VirtRingState -Name $linux | Format-Table
    Measure-VirtRing -Name $linux
    Trace-VirtRing -Name $linux -MaxEvents 200 -Timeout 5 | Group-Object Cause | Sort-Object Count -Descending | Format-Table Count, Name
    Get-VirtVM -Name $linux | Format-Table
    Write-Host 'Done. Next: Get-Help about_VirtPS, or Get-Command -Module VirtPS.'
}
finally {
    Get-VirtVM -Name "quickstart-*-$suffix" -ErrorAction Ignore | ForEach-Object {
        if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
        Remove-VirtVM -Id $_.Id -Force
    }
    if ($initrd -and (Test-Path -LiteralPath $initrd)) { Remove-Item -LiteralPath $initrd }
}
