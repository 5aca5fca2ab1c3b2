<#
.SYNOPSIS
    How fast the guest runs: the same programs on the host, in our guest and in QEMU TCG's, in turn, in one run.
.DESCRIPTION
    Run in virtps:  dotnet run --project src/Shell -- bench/Measure-Speed.ps1 [-Quick]
    Writes artifacts/speed.json and, with -Publish, the table and the picture of docs/performance.md.

    Needs on the host: gcc and libc6-dev (static), qemu-system-x86 for the peer, and the packages whose programs are measured: gzip, bzip2, xz-utils, coreutils,
    openssl, mawk, python3.11-minimal, dash. They are copied from the host with their libraries, so that all three run the same bytes. What is missing is said and left out.

    Times are the guest's own. Each run's first and last line carry the guest's clock, and the run counts only if that clock and the host's agree within 3 %.
    Machines are noisy: of -Rounds rounds each test's least time counts, on every side alike. Checksums of all results must be the same on all sides.
.PARAMETER StrategyOption
    Options of the strategy Full for our side, as of New-VirtVM (for instance @{ tier = 'interpreter' }).
.PARAMETER Quick
    One round, no second processor.
#>
param(
    [string] $Kernel,
    [ValidateRange(1, 20)] [int] $Rounds = 3,
    [string] $Class = 'integer,float,system,program',
    [hashtable] $StrategyOption = @{},
    [ValidateRange(10, 3600)] [int] $Timeout = 600,
    [switch] $Quick,
    [switch] $NoQemu,
    [switch] $NoBoot,
    [switch] $Publish
)

$ErrorActionPreference = 'Stop'
Import-Module VirtPS
. (Join-Path $PSScriptRoot 'Get-OwnMemory.ps1')
$root = Split-Path -Parent $PSScriptRoot
$work = Join-Path '/dev/shm' "virtps-speed-$PID"
$null = New-Item -ItemType Directory -Path $work, "$work/scratch"
if ($Quick) { $Rounds = 1 }
$haveQemu = -not $NoQemu -and [bool] (Get-Command qemu-system-x86_64 -ErrorAction Ignore)
$programs = @{
    '/usr/bin/gzip' = 'gzip'; '/usr/bin/bzip2' = 'bzip2'; '/usr/bin/xz' = 'xz-utils'; '/usr/bin/sha256sum' = 'coreutils'
    '/usr/bin/openssl' = 'openssl'; '/usr/bin/mawk' = 'mawk'; '/usr/bin/python3.11' = 'python3.11-minimal'; '/usr/bin/dash' = 'dash'
}

function Copy-Into([string] $Tree, [string] $File) {
    $target = Join-Path $Tree $File
    $null = New-Item -ItemType Directory -Force -Path (Split-Path -Parent $target)
    if (-not (Test-Path -LiteralPath $target)) { Copy-Item -LiteralPath $File -Destination $target }
}

# The guest's tree: our programs, Debian's, and what the dynamic loader says that these need.
function New-GuestTree {
    $tree = "$work/tree"
    $null = New-Item -ItemType Directory -Force -Path "$tree/tmp", "$tree/dev", "$tree/proc", "$tree/usr/bin"
    Copy-Item -LiteralPath $script:bench -Destination "$tree/init"
    Copy-Item -LiteralPath "$PSScriptRoot/Guest/plan.txt" -Destination "$tree/plan.txt"
    foreach ($program in $programs.Keys) {
        if (-not (Test-Path -LiteralPath $program)) { Write-Warning "$program is not installed (package $($programs[$program]))."; continue }
        Copy-Into $tree $program
        foreach ($library in [regex]::Matches((ldd $program | Out-String), '(?<==> |\t)/\S+')) { Copy-Into $tree $library.Value }
    }

    if (Test-Path "$tree/usr/bin/python3.11") {
        foreach ($file in dpkg -L libpython3.11-minimal) { if (Test-Path -LiteralPath $file -PathType Leaf) { Copy-Into $tree $file } }
        Copy-Item "$tree/usr/bin/python3.11" "$tree/usr/bin/python3"
    }

    $null = New-VirtInitrd -Path "$work/speed.cpio" -SourcePath $tree
    $small = "$work/small"
    $null = New-Item -ItemType Directory -Force -Path "$small/tmp", "$small/dev", "$small/proc"
    Copy-Item -LiteralPath $script:bench -Destination "$small/init"
    $null = New-VirtInitrd -Path "$work/boot.cpio" -SourcePath $small
}

# Reads a side's report: test -> seconds and checksum. Throws where something failed.
function Read-Report([string[]] $Lines, [string] $Side) {
    $found = [ordered]@{}
    foreach ($line in $Lines) {
        if ($line -match '@@ T (\S+) (\S+) ([0-9.]+) ([0-9a-f]+)') {
            $found["$($Matches[1])/$($Matches[2])"] = [pscustomobject]@{ Seconds = [double] $Matches[3]; Checksum = $Matches[4] }
        }
        elseif ($line -match '@@ S (\S+) ([0-9.]+) ([0-9.]+) ([0-9.]+)') {
            $found["smp/$($Matches[1])"] = [pscustomobject]@{ Seconds = [double] $Matches[4]; Checksum = '' }
        }
        elseif ($line -match '@@ E (.*)') { Write-Warning "${Side}: $($Matches[1].Trim())" }
    }

    $found
}

function Test-GuestClock([string[]] $Lines, [double] $HostSeconds, [string] $Side) {
    $text = $Lines -join "`n"
    if ($text -notmatch '@@ START (\d+)') { throw "${Side}: the run did not start." }
    $start = [double] $Matches[1]
    if ($text -notmatch '@@ DONE (\d+)') { throw "${Side}: the run did not end." }
    $guest = ([double] $Matches[1] - $start) / 1e9
    $drift = $guest / $HostSeconds - 1
    Write-Host ('  {0}: {1:0.00} s by the guest''s clock, {2:0.00} s by the host''s ({3:+0.0%;-0.0%})' -f $Side, $guest, $HostSeconds, $drift)
    if ([Math]::Abs($guest - $HostSeconds) -gt 0.1 + 0.03 * $HostSeconds) { throw "${Side}: the guest's clock is off by $('{0:P1}' -f $drift)." }
}

function Get-CommandLine([string] $Arguments) { "console=ttyS0 panic=-1 quiet -- $Arguments" }

function Measure-Native([string] $Arguments) {
    # Twice on the host, where a test costs next to nothing.
    Read-Report (& $script:bench @($Arguments -split ' ')) 'native'
}

function Measure-Ours([string] $Initrd, [string] $Arguments, [int] $Processors, [string] $Until = '@@ DONE \d+') {
    $null = New-VirtVM -Name speed -Kernel $Kernel -Initrd $Initrd -CommandLine (Get-CommandLine $Arguments) -Memory 768MB -ProcessorCount $Processors -Strategy Full -StrategyOption $StrategyOption
    try {
        $watch = [Diagnostics.Stopwatch]::StartNew()
        Start-VirtVM -Name speed
        if ($Until -match 'BOOTED') {
            Wait-VirtVM -Name speed -For Console -Pattern $Until -Timeout $Timeout
            $seconds = $watch.Elapsed.TotalSeconds
            $vm = Get-VirtVM -Name speed
            return [pscustomobject]@{ Seconds = $seconds; WorkerMiB = if ($vm.WorkerProcessId) { Get-OwnMemory $vm.WorkerProcessId } }
        }

        Wait-VirtVM -Name speed -For Console -Pattern '@@ START \d+\s' -Timeout $Timeout
        $start = $watch.Elapsed.TotalSeconds
        Wait-VirtVM -Name speed -For Console -Pattern "$Until\s" -Timeout $Timeout
        $seconds = $watch.Elapsed.TotalSeconds - $start
        $lines = @(Receive-VirtConsole -Name speed)
        Test-GuestClock $lines $seconds 'ours'
        Read-Report $lines 'ours'
    }
    finally {
        Get-VirtVM -Name speed -ErrorAction Ignore | ForEach-Object {
            if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
            Remove-VirtVM -Id $_.Id -Force
        }
    }
}

function Measure-Qemu([string] $Initrd, [string] $Arguments, [int] $Processors, [string] $Until = '@@ DONE \d+') {
    $info = [Diagnostics.ProcessStartInfo]::new('qemu-system-x86_64')
    foreach ($argument in '-accel', 'tcg', '-cpu', 'max', '-m', '768', '-smp', "$Processors", '-display', 'none', '-vga', 'none', '-nodefaults', '-no-reboot', '-serial', 'stdio',
        '-kernel', $Kernel, '-initrd', $Initrd, '-append', (Get-CommandLine $Arguments)) { $info.ArgumentList.Add($argument) }
    $info.RedirectStandardOutput = $true
    $info.RedirectStandardInput = $true
    $info.RedirectStandardError = $true
    $lines = [Collections.Generic.List[string]]::new()
    $watch = [Diagnostics.Stopwatch]::StartNew()
    $process = [Diagnostics.Process]::Start($info)
    $null = $process.StandardError.ReadToEndAsync()
    try {
        $start = 0.0
        while ($null -ne ($line = $process.StandardOutput.ReadLine())) {
            $lines.Add($line)
            if ($line -match '@@ START') { $start = $watch.Elapsed.TotalSeconds }
            if ($line -match $Until) { break }
            if ($watch.Elapsed.TotalSeconds -gt $Timeout) { throw "QEMU: not done within $Timeout s." }
        }

        $seconds = $watch.Elapsed.TotalSeconds
        if ($Until -match 'BOOTED') { return [pscustomobject]@{ Seconds = $seconds; WorkerMiB = $null } }
        Test-GuestClock $lines ($seconds - $start) 'QEMU TCG'
        Read-Report $lines 'QEMU TCG'
    }
    finally { $process.Kill(); $process.WaitForExit() }
}

# Keeps the least time of each test and holds the checksums of all sides against each other.
function Add-Result([Collections.IDictionary] $All, [Collections.IDictionary] $Found, [string] $Side) {
    foreach ($test in $Found.Keys) {
        if (-not $All.Contains($test)) { $All[$test] = @{ Checksum = $Found[$test].Checksum } }
        $row = $All[$test]
        if ($row.Checksum -ne $Found[$test].Checksum) { throw "$test gives $($Found[$test].Checksum) ($Side) and $($row.Checksum) elsewhere." }
        if (-not $row.ContainsKey($Side) -or $Found[$test].Seconds -lt $row[$Side]) { $row[$Side] = $Found[$test].Seconds }
    }
}

function Measure-Second([Collections.IDictionary] $All) {
    # Each for a tenth of a second at least: two processes are not there at once, and what that takes is not what is measured.
    $kernels = 'smp crc 3 sort 3 mandelbrot-scalar 30'
    foreach ($side in 'native', 'ours', 'qemu') {
        $found = switch ($side) {
            'native' { Measure-Native $kernels }
            'ours' { Measure-Ours "$work/boot.cpio" $kernels 2 }
            'qemu' { if ($haveQemu) { Measure-Qemu "$work/boot.cpio" $kernels 2 } else { @{} } }
        }

        foreach ($test in $found.Keys) {
            if (-not $All.Contains($test)) { $All[$test] = @{} }
            # A factor here: the most that a round showed.
            $All[$test][$side] = [Math]::Max([double] $All[$test][$side], $found[$test].Seconds)
        }
    }
}

function Measure-Boots {
    $boots = [Collections.Generic.List[object]]::new()
    foreach ($round in 1..([Math]::Max($Rounds, 1))) {
        foreach ($kind in 'cold', 'warm') {
            if ($kind -eq 'cold' -and $script:cache -and (Test-Path -LiteralPath $script:cache)) { Remove-Item -LiteralPath $script:cache -Recurse -Force }
            $boot = Measure-Ours "$work/boot.cpio" 'boot' 1 '@@ BOOTED'
            $boots.Add([pscustomobject]@{ Side = 'ours'; Kind = $kind; Seconds = $boot.Seconds; WorkerMiB = $boot.WorkerMiB })
        }

        if ($haveQemu) { $boots.Add([pscustomobject]@{ Side = 'qemu'; Kind = 'cold'; Seconds = (Measure-Qemu "$work/boot.cpio" 'boot' 1 '@@ BOOTED').Seconds; WorkerMiB = $null }) }
    }

    $boots
}

try {
    if (-not $Kernel) { $Kernel = (Save-VirtImage -Name debian-cloud-kernel -PassThru).Path }
    $script:bench = "$work/bench"
    $sources = 'run', 'integer', 'float', 'system' | ForEach-Object { "$PSScriptRoot/Guest/$_.c" }
    gcc -O2 -fno-tree-vectorize -ffp-contract=off -static -o $script:bench @sources -lm
    if ($LASTEXITCODE) { throw 'gcc could not build the guest programs.' }
    New-GuestTree
    # Where translations are kept between runs; a cold boot is one without.
    $script:cache = Join-Path $(if ($env:VIRTPS_HOME) { $env:VIRTPS_HOME } else { Join-Path $HOME '.local/state/virtps' }) 'translations'
    $clock = [Diagnostics.Stopwatch]::StartNew()
    $results = [ordered]@{}; $smp = [ordered]@{}; $boots = @()
    foreach ($round in 1..$Rounds) {
        Write-Host ('Round {0} of {1}, {2:0} s' -f $round, $Rounds, $clock.Elapsed.TotalSeconds)
        Add-Result $results (Measure-Native "run $PSScriptRoot/Guest/plan.txt $work/scratch 2 $Class") 'native'
        Add-Result $results (Measure-Ours "$work/speed.cpio" "run /plan.txt /tmp 1 $Class" 1) 'ours'
        if ($haveQemu) { Add-Result $results (Measure-Qemu "$work/speed.cpio" "run /plan.txt /tmp 1 $Class" 1) 'qemu' }
        if (-not $Quick) { Measure-Second $smp }
    }

    if (-not $NoBoot) { $boots = @(Measure-Boots) }
    $hostInfo = Get-VirtHost
    $out = [ordered]@{
        Date = (Get-Date).ToUniversalTime().ToString('yyyy-MM-dd'); Processor = $hostInfo.Processor; Processors = [Environment]::ProcessorCount
        Rounds = $Rounds; Seconds = [int] $clock.Elapsed.TotalSeconds
        Qemu = $(if ($haveQemu) { (qemu-system-x86_64 --version)[0] } else { $null })
        Options = @($StrategyOption.Keys | Sort-Object | ForEach-Object { "$_=$($StrategyOption[$_])" })
        Tests = @($results.Keys | ForEach-Object { $c, $n = $_ -split '/', 2; [ordered]@{ Class = $c; Name = $n; Native = $results[$_]['native']; Ours = $results[$_]['ours']; Qemu = $results[$_]['qemu'] } })
        Scaling = @($smp.Keys | ForEach-Object { [ordered]@{ Name = ($_ -split '/', 2)[1]; Native = $smp[$_]['native']; Ours = $smp[$_]['ours']; Qemu = $smp[$_]['qemu'] } })
        Boots = $boots
    }
    $target = Join-Path $root 'artifacts/speed.json'
    $null = New-Item -ItemType Directory -Force -Path (Split-Path -Parent $target)
    $out | ConvertTo-Json -Depth 5 | Set-Content -LiteralPath $target
    $report = @('run', '-v', 'q', '--project', (Join-Path $PSScriptRoot 'Report'), '--', $target)
    if ($Publish) { $report += (Join-Path $root 'docs/performance.md') }
    & dotnet @report
    if ($LASTEXITCODE) { throw 'The report could not be written.' }
}
finally { Remove-Item -LiteralPath $work -Recurse -Force }
