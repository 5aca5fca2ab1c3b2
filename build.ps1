<#
.SYNOPSIS
    Builds, tests, packs and measures VirtPS.
.DESCRIPTION
    Runs in virtps (dotnet run --project src/Shell -- build.ps1 -Task Test) and in a real pwsh 7.6+ (./build.ps1 -Task Test).
.PARAMETER Task
    Build    everything, and the module in artifacts/module/VirtPS
    Test     builds, then all tests: xUnit, the opcode oracle, Pester; ends with one line "N passed, N failed, N skipped"
    Package  artifacts/package/VirtPS (a module folder with a self-contained worker) and artifacts/nuget (the SDK)
    Bench    the measurements in bench/, with QEMU beside them where it is installed
    Clean    removes artifacts and all bin and obj folders
.PARAMETER Filter
    For Test: only test projects and Pester files whose name matches this wildcard.
#>
param(
    [ValidateSet('Build', 'Test', 'Package', 'Bench', 'Clean')]
    [string] $Task = 'Build',
    [string] $Filter = '*',
    [string] $Runtime = 'linux-x64'
)

$ErrorActionPreference = 'Stop'
$root = $PSScriptRoot
$artifacts = Join-Path $root 'artifacts'

function Invoke-Dotnet {
    & dotnet @args
    if ($LASTEXITCODE -ne 0) { throw "dotnet $($args -join ' ') ended with exit code $LASTEXITCODE." }
}

function Invoke-Build {
    Write-Host 'Building the solution'
    # A solution's default configuration is Debug, whatever its projects say.
    Invoke-Dotnet build (Join-Path $root 'VirtPS.sln') -c Release --nologo -v q '-clp:NoSummary'
}

# One xUnit project: its executable writes an XML report, from which the numbers and the reasons for skips are read.
function Invoke-XunitProject([string] $Project) {
    $name = [IO.Path]::GetFileNameWithoutExtension($Project)
    # Not every assembly is called like its project, and some stand in a folder for their runtime.
    $settings = Get-ChildItem -Path (Join-Path (Split-Path -Parent $Project) 'bin/Release/net10.0') -Filter '*Tests.runtimeconfig.json' -Recurse -ErrorAction Ignore | Select-Object -First 1
    if (-not $settings) {
        return New-MissingResult $name "$name was not built." 0
    }

    $program = $settings.FullName -replace '\.runtimeconfig\.json$', '.dll'
    $report = Join-Path $artifacts "test-results/$name.xml"
    if (Test-Path -LiteralPath $report) { Remove-Item -LiteralPath $report }
    $watch = [Diagnostics.Stopwatch]::StartNew()
    & dotnet $program -noLogo -noColor -reporter quiet -result-xml $report | Out-Host
    $code = $LASTEXITCODE
    if (-not (Test-Path -LiteralPath $report)) {
        return New-MissingResult $name "$name wrote no report (exit code $code)." $watch.Elapsed.TotalSeconds
    }

    $passed = 0; $failed = 0; $skipped = 0; $failures = @()
    foreach ($assembly in ([xml] [IO.File]::ReadAllText($report)).assemblies.assembly) {
        $passed += [int] $assembly.passed
        $failed += [int] $assembly.failed + [int] $assembly.errors
        $skipped += [int] $assembly.skipped
        foreach ($test in $assembly.SelectNodes('.//test[@result="Skip"]')) { Write-Host "  skipped: $($test.name): $($test.SelectSingleNode('reason').InnerText)" }
        foreach ($test in $assembly.SelectNodes('.//test[@result="Fail"]')) { $failures += Format-Failure $test.name $test.SelectSingleNode('failure/message').InnerText }
    }

    if ($code -ne 0 -and $failed -eq 0) { $failed = 1 }
    [pscustomobject]@{ Name = $name; Passed = $passed; Failed = $failed; Skipped = $skipped; Seconds = $watch.Elapsed.TotalSeconds; Failures = $failures }
}

# A project of which nothing is known but that it failed.
function New-MissingResult([string] $Name, [string] $Why, [double] $Seconds) {
    Write-Host "  $Why"
    [pscustomobject]@{ Name = $Name; Passed = 0; Failed = 1; Skipped = 0; Seconds = $Seconds; Failures = @("failed: $Why") }
}

# What the end of a run repeats of a test that failed: the message's beginning and its end, where a guest's last words are.
function Format-Failure([string] $Name, [string] $Message) {
    if ($Message.Length -gt 2500) { $Message = $Message.Substring(0, 800) + "`n[...]`n" + $Message.Substring($Message.Length - 1700) }
    "failed: $Name`n$Message"
}

# The oracle compares a fixed-seed million of instructions with the host's processor; it counts as one test.
function Invoke-OpcodeOracle([string] $Program) {
    $watch = [Diagnostics.Stopwatch]::StartNew()
    & dotnet $Program --count 1000000 --seed 1 | Out-Host
    # 77: this host cannot be the oracle (no Linux x64 with AVX and XSAVE); it has said so.
    $good = $LASTEXITCODE -eq 0; $skipped = $LASTEXITCODE -eq 77
    [pscustomobject]@{
        Name = 'Opcode oracle'; Passed = [int] $good; Failed = [int] (-not $good -and -not $skipped); Skipped = [int] $skipped; Seconds = $watch.Elapsed.TotalSeconds
    }
}

function Invoke-PesterFile([string] $Path) {
    $watch = [Diagnostics.Stopwatch]::StartNew()
    $result = Invoke-Pester -Path $Path -PassThru
    [pscustomobject]@{
        Name = Split-Path -Leaf $Path; Passed = $result.PassedCount; Failed = $result.FailedCount + $result.FailedContainersCount
        Skipped = $result.SkippedCount; Seconds = $watch.Elapsed.TotalSeconds
        Failures = @(foreach ($test in $result.Failed) { Format-Failure $test.ExpandedPath "$($test.ErrorRecord)" })
    }
}

function Invoke-Test {
    Invoke-Build
    $null = New-Item -ItemType Directory -Force -Path (Join-Path $artifacts 'test-results')
    $env:VIRTPS_TEST_ROOT = $root
    $results = @(
        Get-ChildItem -Path (Join-Path $root 'tests/unit'), (Join-Path $root 'tests/guests'), (Join-Path $root 'tests/hardware') -Filter '*.csproj' -Recurse -ErrorAction Ignore |
            Sort-Object Name | Where-Object { $_.BaseName -like '*Tests' -and $_.BaseName -like $Filter } | ForEach-Object {
                Write-Host "xUnit: $($_.BaseName)"
                Invoke-XunitProject $_.FullName
                # What executes guest code is tested on both engines.
                if ($_.BaseName -in 'Emulation.Tests', 'VirtPS.Emulation.System.Tests', 'Vector.Tests') {
                    Write-Host "xUnit: $($_.BaseName), on the translator"
                    $env:VIRTPS_TEST_ENGINE = 'translator'
                    try { Invoke-XunitProject $_.FullName } finally { $env:VIRTPS_TEST_ENGINE = $null }
                }

                if ($_.BaseName -eq 'Emulation.Tests') {
                    Write-Host "xUnit: $($_.BaseName), on the translator as for a host without BMI2 and AVX"
                    $env:VIRTPS_TEST_ENGINE = 'translator-v2'
                    try { Invoke-XunitProject $_.FullName } finally { $env:VIRTPS_TEST_ENGINE = $null }
                }
            }
        $oracle = Join-Path $root 'tests/opcodes/bin/Release/net10.0/VirtPS.Opcodes.dll'
        if ('opcodes' -like $Filter -and (Test-Path -LiteralPath $oracle)) {
            Write-Host 'Opcode oracle: the host processor against the interpreter'
            Invoke-OpcodeOracle $oracle
        }

        Get-ChildItem -Path (Join-Path $root 'tests/pester') -Filter '*.Tests.ps1' | Sort-Object Name | Where-Object Name -like $Filter | ForEach-Object {
            Write-Host "Pester: $($_.Name)"
            Invoke-PesterFile $_.FullName
        }
    )
    $results | Format-Table Name, Passed, Failed, Skipped, @{ Name = 'Seconds'; Expression = { '{0:0.0}' -f $_.Seconds } } -AutoSize | Out-Host
    $sum = @{ Passed = 0; Failed = 0; Skipped = 0 }
    foreach ($result in $results) { foreach ($key in @($sum.Keys)) { $sum[$key] += $result.$key } }
    foreach ($result in $results) { foreach ($failure in $result.Failures) { Write-Host "$failure`n" } }
    Write-Host "$($sum.Passed) passed, $($sum.Failed) failed, $($sum.Skipped) skipped"
    if ($sum.Failed -gt 0 -or $sum.Passed -eq 0) { exit 1 }
}

function Invoke-Package {
    Invoke-Build
    $package = Join-Path $artifacts 'package/VirtPS'
    if (Test-Path -LiteralPath $package) { Remove-Item -LiteralPath $package -Recurse -Force }
    $null = New-Item -ItemType Directory -Force -Path (Split-Path -Parent $package)
    Copy-Item -LiteralPath (Join-Path $artifacts 'module/VirtPS') -Destination $package -Recurse
    # An official pwsh brings no dotnet: the packaged worker carries its own runtime.
    Remove-Item -LiteralPath (Join-Path $package 'worker') -Recurse -Force
    Write-Host "Publishing the worker with its own runtime ($Runtime)"
    Invoke-Dotnet publish (Join-Path $root 'src/Worker') --nologo -v q -r $Runtime --self-contained '-p:PublishReadyToRun=true' -o (Join-Path $package 'worker')
    $nuget = Join-Path $artifacts 'nuget'
    if (Test-Path -LiteralPath $nuget) { Remove-Item -LiteralPath $nuget -Recurse -Force }
    foreach ($project in 'src/X86', 'src/Sdk/Contracts', 'src/Sdk/Client', 'src/Sdk/Testing') {
        Invoke-Dotnet pack (Join-Path $root $project) --nologo -v q -o $nuget
    }

    $stub = Get-ChildItem -Path $package -Recurse -Filter 'System.Management.Automation.dll'
    if ($stub) { throw "The PowerShell reference assembly was packed: $($stub.FullName)." }
    Write-Host "Module:   $package"
    Get-ChildItem -Path $nuget | ForEach-Object { Write-Host "Package:  $($_.FullName)" }
}

function Invoke-Bench {
    Invoke-Build
    & (Join-Path $root 'bench/Measure-All.ps1')
}

function Invoke-Clean {
    Get-ChildItem -Path $root -Recurse -Directory -Force |
        Where-Object { $_.Name -in 'bin', 'obj' -and (Test-Path -Path (Join-Path $_.Parent.FullName '*.csproj')) } |
        ForEach-Object { Remove-Item -LiteralPath $_.FullName -Recurse -Force }
    if (Test-Path -LiteralPath $artifacts) { Remove-Item -LiteralPath $artifacts -Recurse -Force }
}

& "Invoke-$Task"
