<#
.SYNOPSIS
    Compare-VirtStrategy on ringlab and on the Debian kernel in an emulated host with a real kvm-amd.
.DESCRIPTION
    For machines whose own processor can't run the strategy Hardware. QEMU emulates a processor with AMD SVM; in it runs Debian's cloud kernel with its own KVM, and in that the shell with the module
    as they were built here. Prints what the host can run, then a table for each guest. Takes some minutes on one core. Needs qemu-system-x86_64 and apt, and a built solution (build.ps1 -Task Build).
    Everything there is emulated, so the figures say how the strategies stand to each other there, not how fast they are.
#>
param()

$ErrorActionPreference = 'Stop'
$root = Split-Path -Parent $PSScriptRoot
$tests = Join-Path $root 'tests/hardware/Hardware.Tests/bin/Release/net10.0/VirtPS.Hardware.Tests.dll'
if (-not (Test-Path -LiteralPath $tests)) { throw "Not built: $tests. Run build.ps1 -Task Build first." }
$output = @(& dotnet $tests -noLogo -noColor -showLiveOutput -explicit only -method '*.Compare_strategies' 2>&1 | ForEach-Object { "$_" -replace '^.*\[OUTPUT\] ?' })
$good = $LASTEXITCODE -eq 0
if (-not $good) { $output | Out-Host; throw 'The emulated host did not come to its end.' }
if ($output -match '\[SKIP\]') { $output | Out-Host; return }
# From the first line of the shell's own to its last.
$first = [Array]::FindIndex([string[]] $output, [Predicate[string]] { $args[0] -match '^Name\s+IsSupported' })
$last = [Array]::FindIndex([string[]] $output, [Predicate[string]] { $args[0] -match '^NESTED-END' })
$output[[Math]::Max(0, $first)..($last - 1)] -replace '^NESTED-TABLE (.*)', 'Guest: $1' | Where-Object { $_ -notmatch '^\[ *\d+\.\d+\] ' }
