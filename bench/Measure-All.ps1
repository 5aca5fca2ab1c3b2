<#
.SYNOPSIS
    The measurements behind every claim of speed, each beside its peer in the same run where it has one.
.DESCRIPTION
    Run through build.ps1 -Task Bench. The Debian measurements need apt (or -Kernel and -Busybox); those against QEMU need qemu-system-x86_64.
    What a machine lacks is reported as "not measured" with the reason. The machines are noisy: every figure is the median of -Runs.
#>
param(
    [string] $Kernel,
    [string] $Busybox,
    [ValidateRange(1, 20)] [int] $Runs = 3,
    [string] $Only = '*'
)

$ErrorActionPreference = 'Stop'
Import-Module VirtPS
. (Join-Path $PSScriptRoot 'Get-OwnMemory.ps1')
$script:rows = [Collections.Generic.List[object]]::new()
$work = Join-Path ([IO.Path]::GetTempPath()) "virtps-bench-$PID"
$null = New-Item -ItemType Directory -Path $work
$home0 = $env:VIRTPS_HOME
$kernelAppend = 'console=ttyS0 panic=-1'

function Get-Median([double[]] $Values) { $sorted = @($Values | Sort-Object); $sorted[[int] [Math]::Floor(($sorted.Count - 1) / 2)] }

function Add-Row([string] $What, $Value, [string] $Unit, [string] $Reach, $Good) {
    $row = [pscustomobject]@{ What = $What; Value = $Value; Unit = $Unit; Reach = $Reach; Reached = $Good }
    $script:rows.Add($row)
    Write-Host ('{0,-62} {1,10} {2,-6} {3}' -f $What, $(if ($Value -is [string]) { $Value } else { '{0:0.###}' -f $Value }), $Unit, $(if ($null -eq $Good) { '' } elseif ($Good) { 'ok' } else { "NOT REACHED ($Reach)" }))
}

function Remove-Bench([string] $Name) {
    Get-VirtVM -Name $Name -ErrorAction Ignore | ForEach-Object {
        if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
        Remove-VirtVM -Id $_.Id -Force
    }
}

# Seconds from Start-VirtVM to the marker, and what the processors did meanwhile.
function Measure-Boot([string] $Strategy, [int] $Processors, [string] $Initrd) {
    $null = New-VirtVM -Name bench-boot -Kernel $Kernel -Initrd $Initrd -CommandLine $kernelAppend -Memory 512MB -ProcessorCount $Processors -Strategy $Strategy
    try {
        $watch = [Diagnostics.Stopwatch]::StartNew()
        Start-VirtVM -Name bench-boot
        Wait-VirtVM -Name bench-boot -For Console -Pattern 'GUEST-READY' -Timeout 300
        $seconds = $watch.Elapsed.TotalSeconds
        $rings = @(Measure-VirtRing -Name bench-boot)
        $vm = Get-VirtVM -Name bench-boot
        [pscustomobject]@{
            Seconds      = $seconds
            Instructions = ($rings | ForEach-Object { $_.Instructions | Measure-Object -Sum } | Measure-Object Sum -Sum).Sum
            RunSeconds   = ($rings | ForEach-Object { $_.RunTime.TotalSeconds } | Measure-Object -Sum).Sum
            WorkerMiB    = Get-OwnMemory $vm.WorkerProcessId
            Console      = @(Receive-VirtConsole -Name bench-boot)
        }
    }
    finally { Remove-Bench bench-boot }
}

function Measure-QemuBoot([int] $Processors, [string] $Initrd) {
    $start = [Diagnostics.ProcessStartInfo]::new('qemu-system-x86_64')
    foreach ($argument in '-accel', 'tcg', '-m', '512', '-smp', "$Processors", '-display', 'none', '-vga', 'none', '-nodefaults', '-no-reboot', '-serial', 'stdio',
        '-kernel', $Kernel, '-initrd', $Initrd, '-append', $kernelAppend) { $start.ArgumentList.Add($argument) }
    $start.RedirectStandardOutput = $true
    $start.RedirectStandardInput = $true
    $watch = [Diagnostics.Stopwatch]::StartNew()
    $process = [Diagnostics.Process]::Start($start)
    try {
        while ($null -ne ($line = $process.StandardOutput.ReadLine())) { if ($line -match 'GUEST-READY') { return $watch.Elapsed.TotalSeconds } }
        throw 'QEMU ended before the marker.'
    }
    finally { $process.Kill(); $process.WaitForExit() }
}

function Measure-Debian {
    try {
        if (-not $Kernel) { $script:Kernel = (Save-VirtImage -Name debian-cloud-kernel -PassThru).Path }
        if (-not $Busybox) { $script:Busybox = (Save-VirtImage -Name busybox -PassThru).Path }
    }
    catch {
        Add-Row 'Debian kernel: power-on to /init' "not measured: $_" '' '' $null
        return
    }

    $initrd = Join-Path $work 'bench.cpio.gz'
    $null = New-VirtInitrd -Path $initrd -Busybox $Busybox
    $haveQemu = [bool] (Get-Command qemu-system-x86_64 -ErrorAction Ignore)
    $ours = @(); $theirs = @(); $mips = @(); $memory = @()
    foreach ($run in 1..$Runs) {
        $boot = Measure-Boot Full 1 $initrd
        $ours += $boot.Seconds
        $mips += $boot.Instructions / $boot.RunSeconds / 1e6
        $memory += $boot.WorkerMiB
        if ($haveQemu) { $theirs += Measure-QemuBoot 1 $initrd }
    }

    Add-Row 'Debian kernel, 512 MB, 1 vCPU: Start-VirtVM to /init' (Get-Median $ours) 's' '' $null
    if ($haveQemu) {
        $ratio = (Get-Median $ours) / (Get-Median $theirs)
        Add-Row '  QEMU TCG, process start to the same line' (Get-Median $theirs) 's' '' $null
        Add-Row '  ours : QEMU TCG' $ratio 'x' '<= 10' ($ratio -le 10)
    }
    else { Add-Row '  ours : QEMU TCG' 'not measured: qemu-system-x86_64 is not installed' '' '' $null }
    Add-Row '  interpreter on the boot' (Get-Median $mips) 'MIPS' '>= 100' ((Get-Median $mips) -ge 100)
    Add-Row "  worker memory beyond the guest's RAM" (Get-Median $memory) 'MiB' '<= 120' ((Get-Median $memory) -le 120)
    Measure-Idle $initrd
    foreach ($processors in 4, 8) {
        $boot = Measure-Boot Full $processors $initrd
        $seen = @($boot.Console | Select-String 'smp: Brought up \d+ node, (\d+) CPUs').Matches
        $count = if ($seen) { [int] $seen[0].Groups[1].Value } else { 0 }
        Add-Row "$processors vCPUs: the kernel brings up" $count 'CPUs' "= $processors" ($count -eq $processors)
    }
}

function Measure-Start {
    $values = foreach ($run in 1..($Runs + 1)) {
        $null = New-VirtVM -Name bench-start -Memory 64MB -Strategy Full
        $watch = [Diagnostics.Stopwatch]::StartNew()
        Start-VirtVM -Name bench-start
        $watch.Elapsed.TotalMilliseconds
        Remove-Bench bench-start
    }
    $median = Get-Median @($values | Select-Object -Skip 1)
    Add-Row 'Start-VirtVM to first guest instruction, worker included' $median 'ms' '<= 500' ($median -le 500)
}

function Measure-Import {
    # A fresh process each time: in this one everything is loaded already.
    $values = foreach ($run in 1..$Runs) {
        [double] (& ([Environment]::ProcessPath) -NoProfile -Command '(Measure-Command { Import-Module VirtPS }).TotalMilliseconds')
    }
    Add-Row 'Module import, in a shell that runs' (Get-Median $values) 'ms' '<= 300' ((Get-Median $values) -le 300)
}

function Measure-Store {
    $env:VIRTPS_HOME = Join-Path $work 'store'
    try {
        foreach ($i in 1..1000) { $null = New-VirtVM -Name "bench-$i" -Memory 64MB -Strategy Full }
        $values = foreach ($run in 1..$Runs) { (Measure-Command { $script:found = @(Get-VirtVM) }).TotalMilliseconds }
        Add-Row "Get-VirtVM with $($found.Count) stored VMs" (Get-Median $values) 'ms' '<= 500' ((Get-Median $values) -le 500 -and $found.Count -eq 1000)
    }
    finally { $env:VIRTPS_HOME = $home0 }
}

# Processor time of the worker while the guest has nothing to do: ten seconds at a shell's prompt.
function Measure-Idle([string] $Initrd) {
    $null = New-VirtVM -Name bench-idle -Kernel $Kernel -Initrd $Initrd -CommandLine $kernelAppend -Memory 512MB -Strategy Full
    try {
        Start-VirtVM -Name bench-idle
        Wait-VirtVM -Name bench-idle -For Console -Pattern 'GUEST-READY' -Timeout 300
        Start-Sleep -Seconds 5
        $process = [Diagnostics.Process]::GetProcessById((Get-VirtVM -Name bench-idle).WorkerProcessId)
        $before = $process.TotalProcessorTime
        Start-Sleep -Seconds 10
        $process.Refresh()
        $percent = ($process.TotalProcessorTime - $before).TotalSeconds * 10
        Add-Row 'Idle Debian guest: share of one core' $percent '%' '< 2' ($percent -lt 2)
    }
    finally { Remove-Bench bench-idle }
}

function Measure-Trace {
    $null = New-VirtVM -Name bench-trace -Memory 64MB -Strategy Full -CommandLine 'bench'
    try {
        Start-VirtVM -Name bench-trace
        Start-Sleep -Seconds 1
        $watch = [Diagnostics.Stopwatch]::StartNew()
        Trace-VirtRing -Name bench-trace -MaxEvents 1000000 -Timeout 30 -WarningVariable lost -WarningAction SilentlyContinue | Out-Null
        $rate = 1000000 / $watch.Elapsed.TotalSeconds
        Add-Row 'Ring transitions to Out-Null' $rate '1/s' '>= 200000' ($rate -ge 200000)
        if ($lost) { Write-Host "  $lost" }
    }
    finally { Remove-Bench bench-trace }
}

# Port exits beside a C program that does nothing, and the time to a first instruction: any /dev/kvm will do, a paravirtual one too.
function Measure-Kvm {
    $root = Split-Path -Parent $PSScriptRoot
    if (-not (Test-Path /dev/kvm)) { Add-Row 'KVM: port exits' 'not measured: no /dev/kvm' '' '' $null; return }
    $peer = ''
    if (Get-Command gcc -ErrorAction Ignore) {
        $peer = Join-Path $work 'peer'
        & gcc -O2 -o $peer (Join-Path $root 'bench/Kvm/peer.c')
        if ($LASTEXITCODE -ne 0) { $peer = '' }
    }

    $values = @{}
    & dotnet (Join-Path $root 'bench/Kvm/bin/Release/net10.0/VirtPS.Bench.Kvm.dll') $peer 1 | ForEach-Object { $name, $value = $_ -split '='; $values[$name] = [double] $value }
    Add-Row 'KVM: port exits, a C# device' $values['ports.ours'] '1/s' '' $null
    if ($peer) {
        Add-Row '  a C program that does nothing, same /dev/kvm' $values['ports.peer'] '1/s' '' $null
        Add-Row '  ours : C' $values['ports.ratio'] 'x' '>= 0.9' ($values['ports.ratio'] -ge 0.9)
    }
    else { Add-Row '  ours : C' 'not measured: no gcc' '' '' $null }
    Add-Row 'KVM: machine built, first guest instruction executed' $values['first.median'] 'ms' '<= 20' ($values['first.median'] -le 20)
    # Debian's kernel under our engine and under QEMU's microvm, in one emulated host with kvm-amd; takes minutes.
    if (Get-Command qemu-system-x86_64 -ErrorAction Ignore) {
        $line = & dotnet (Join-Path $root 'tests/hardware/Hardware.Tests/bin/Release/net10.0/VirtPS.Hardware.Tests.dll') -noLogo -noColor -explicit only -method '*Boot_beside_QEMU' -showLiveOutput | Where-Object { $_ -match 'boot beside QEMU = ours ([\d.]+) s .*microvm ([\d.]+) s' } | Select-Object -First 1
        if ($line -match 'ours ([\d.]+) s .*microvm ([\d.]+) s') {
            $ratio = [double] $Matches[1] / [double] $Matches[2]
            Add-Row 'KVM in an emulated host: Debian, first entry to /init' ([double] $Matches[1]) 's' '' $null
            Add-Row '  QEMU microvm' ([double] $Matches[2]) 's' '' $null
            Add-Row '  ours : QEMU' $ratio 'x' '<= 1' ($ratio -le 1)
        }
    }
}

try {
    Write-Host "VirtPS measurements, $((Get-VirtHost).Processor), $([Environment]::ProcessorCount) logical processors"
    foreach ($part in 'Import', 'Start', 'Trace', 'Store', 'Kvm', 'Debian') { if ($part -like $Only) { & "Measure-$part" } }
    $target = Join-Path (Split-Path -Parent $PSScriptRoot) 'artifacts/bench.json'
    $script:rows | ConvertTo-Json | Set-Content -LiteralPath $target
    Write-Host "Written to $target"
}
finally { Remove-Item -LiteralPath $work -Recurse -Force }
