# The run: setups, tests and teardowns, each block a function call deeper, so that scopes nest by themselves.

function __InvokeRun($Configuration) {
    $previous = $__state.Run, $__state.Current
    $watch = [Diagnostics.Stopwatch]::StartNew()
    $__state.Run = [pscustomobject]@{
        Verbosity = $Configuration.Output.Verbosity; Filter = $Configuration.Filter
        Tests = [Collections.Generic.List[object]]::new(); FailedBlocks = [Collections.Generic.List[object]]::new()
        Containers = [Collections.Generic.List[object]]::new(); FailedContainers = 0
    }
    try {
        $files = @(__FindTestFiles $Configuration.Run.Path $Configuration.Run.ExcludePath)
        foreach ($file in $files) { __DiscoverFile $file }
        foreach ($container in $__state.Run.Containers) { __RunContainer $container }
        $result = __NewResult $watch.Elapsed
        __WriteSummary $result
        $result
    }
    finally {
        $__state.Run, $__state.Current = $previous
    }
}

function __FindTestFiles($Paths, $Excluded) {
    $found = foreach ($path in $Paths) {
        $items = @(Get-Item -Path $path -ErrorAction SilentlyContinue)
        if ($items.Count -eq 0) { throw "There is no test file or folder '$path'." }
        foreach ($item in $items) {
            if ($item.PSIsContainer) { Get-ChildItem -LiteralPath $item.FullName -Filter '*.Tests.ps1' -File -Recurse | ForEach-Object FullName }
            else { $item.FullName }
        }
    }
    $found | Sort-Object -Unique | Where-Object { $file = $_; -not @($Excluded | Where-Object { $file -like $_ }).Count }
}

function __DiscoverFile($File) {
    $root = __NewBlock 'Container' $File $null $null $false @() $false
    $__state.Run.Containers.Add($root)
    $__state.Current = $root
    try {
        $null = & $File
        __SelectTests $root '' @() $__state.Run.Filter $false
    }
    catch {
        $root.ErrorRecord = $_
        $root.Result = 'Failed'
        $__state.Run.FailedContainers++
    }
    finally {
        $__state.Current = $null
    }
}

function __RunContainer($__container) {
    __WriteContainer $__container
    if ($__container.Result -eq 'Failed' -or -not $__container.ShouldRun) {
        __CollectNotRun $__container
        return
    }
    $TestDrive = Join-Path ([IO.Path]::GetTempPath()) ('pester_' + [guid]::NewGuid().ToString('n').Substring(0, 12))
    $null = [IO.Directory]::CreateDirectory($TestDrive)
    $null = New-PSDrive -Name TestDrive -PSProvider FileSystem -Root $TestDrive -Scope Global -ErrorAction SilentlyContinue
    try {
        __RunBlock $__container 0
    }
    finally {
        Remove-PSDrive -Name TestDrive -Scope Global -Force -ErrorAction SilentlyContinue
        Remove-Item -LiteralPath $TestDrive -Recurse -Force -ErrorAction SilentlyContinue
    }
}

function __RunBlock($__block, $__depth) {
    if (-not $__block.ShouldRun) {
        __CollectNotRun $__block
        return
    }
    if ($__block.HasData) { $_ = $__block.Data; . __SetCase $__block.Data }
    if ($__block.Kind -ne 'Container') { __WriteBlock $__block $__depth }
    $__filesBefore = @([IO.Directory]::GetFileSystemEntries($TestDrive))
    $__failure = $null
    $__allSkipped = -not (__AnyToExecute $__block)
    try {
        if (-not $__allSkipped) {
            foreach ($__setup in $__block.BeforeAll) { $null = . $__setup }
        }
    }
    catch {
        $__failure = $_
        __FailBlock $__block $__failure $__depth
    }
    if ($null -eq $__failure) {
        foreach ($__item in $__block.Items) {
            if ($__item.Kind -eq 'Test') { __RunTest $__item ($__depth + 1) } else { __RunBlock $__item ($__depth + 1) }
        }
    }
    else {
        __FailAll $__block $__failure ($__depth + 1)
    }
    try {
        if (-not $__allSkipped) {
            foreach ($__teardown in $__block.AfterAll) { $null = . $__teardown }
        }
    }
    catch {
        __FailBlock $__block $_ $__depth
    }
    foreach ($__entry in [IO.Directory]::GetFileSystemEntries($TestDrive)) {
        if ($__entry -notin $__filesBefore) { Remove-Item -LiteralPath $__entry -Recurse -Force -ErrorAction SilentlyContinue }
    }
}

function __AnyToExecute($Block) {
    foreach ($item in $Block.Items) {
        if ($item.ShouldRun -and -not $item.Skip) {
            if ($item.Kind -eq 'Test' -or (__AnyToExecute $item)) { return $true }
        }
    }
    $false
}

function __RunTest($__test, $__depth) {
    $__state.Run.Tests.Add($__test)
    if (-not $__test.ShouldRun) { return }
    if ($__test.HasData) { $_ = $__test.Data; . __SetCase $__test.Data }
    $__test.ExpandedName = __ExpandName $__test.Name $__test
    $__test.ExpandedPath = __PathOf $__test
    if ($__test.Skip) {
        $__test.Result = 'Skipped'
        __WriteTest $__test $__depth
        return
    }
    $__watch = [Diagnostics.Stopwatch]::StartNew()
    $__chain = @(__Chain $__test.Parent)
    try {
        try {
            foreach ($__level in $__chain) { foreach ($__setup in $__level.BeforeEach) { $null = . $__setup } }
            $null = . $__test.Body
            $__test.Result = 'Passed'
        }
        finally {
            for ($__i = $__chain.Count - 1; $__i -ge 0; $__i--) {
                foreach ($__teardown in $__chain[$__i].AfterEach) { $null = . $__teardown }
            }
        }
    }
    catch {
        __SetOutcome $__test $_
    }
    $__test.Duration = $__watch.Elapsed
    __WriteTest $__test $__depth
}

function __SetOutcome($Test, $ErrorRecord) {
    switch -Wildcard ($ErrorRecord.FullyQualifiedErrorId) {
        'PesterTestSkipped*' { $Test.Result = 'Skipped'; $Test.Because = $ErrorRecord.TargetObject }
        'PesterTestInconclusive*' { $Test.Result = 'Inconclusive'; $Test.Because = $ErrorRecord.TargetObject }
        default { $Test.Result = 'Failed'; $Test.ErrorRecord = $ErrorRecord }
    }
}

# From the container down to the test's own block.
function __Chain($Block) {
    $chain = [Collections.Generic.List[object]]::new()
    for ($b = $Block; $null -ne $b; $b = $b.Parent) { $chain.Insert(0, $b) }
    $chain
}

function __FailBlock($Block, $ErrorRecord, $Depth) {
    $Block.Result = 'Failed'
    $Block.ErrorRecord = $ErrorRecord
    $__state.Run.FailedBlocks.Add($Block)
    __WriteBlockFailure $Block $Depth
}

# A setup that failed takes the tests below it with it: they are failures, not passes and not silence.
function __FailAll($Block, $ErrorRecord, $Depth) {
    foreach ($item in $Block.Items) {
        if ($item.Kind -ne 'Test') { __FailAll $item $ErrorRecord ($Depth + 1); continue }
        $__state.Run.Tests.Add($item)
        if (-not $item.ShouldRun) { continue }
        $item.ExpandedName = __ExpandName $item.Name $item
        $item.ExpandedPath = __PathOf $item
        if ($item.Skip) { $item.Result = 'Skipped' }
        else { $item.Result = 'Failed'; $item.ErrorRecord = $ErrorRecord }
        __WriteTest $item $Depth
    }
}

function __CollectNotRun($Block) {
    foreach ($item in $Block.Items) {
        if ($item.Kind -eq 'Test') { $__state.Run.Tests.Add($item) } else { __CollectNotRun $item }
    }
}

# <name>, <name.property> and <_> in a name stand for values of the -ForEach case, of the test or of a block around it.
function __ExpandName($Name, $Item) {
    [regex]::Replace($Name, '<([^<>]+)>', {
            param($match)
            $parts = $match.Groups[1].Value.Split('.')
            for ($owner = $Item; $null -ne $owner; $owner = $owner.Parent) {
                if (-not $owner.HasData) { continue }
                if ($parts[0] -eq '_') { $value = $owner.Data }
                elseif ($owner.Data -is [Collections.IDictionary] -and $owner.Data.Contains($parts[0])) { $value = $owner.Data[$parts[0]] }
                else { continue }
                foreach ($part in ($parts | Select-Object -Skip 1)) { $value = $value.$part }
                return (__ShowValue $value -Bare)
            }
            $match.Value
        })
}

function __PathOf($Test) {
    $names = [Collections.Generic.List[string]]::new()
    $names.Add($Test.ExpandedName)
    for ($block = $Test.Parent; $null -ne $block.Parent; $block = $block.Parent) { $names.Insert(0, (__ExpandName $block.Name $block)) }
    $names -join '.'
}

function Set-ItResult {
    [CmdletBinding()]
    param(
        [Parameter(ParameterSetName = 'Skipped')] [switch] $Skipped,
        [Parameter(ParameterSetName = 'Inconclusive')] [switch] $Inconclusive,
        [string] $Because
    )
    $kind = if ($Inconclusive) { 'Inconclusive' } else { 'Skipped' }
    $text = "is $($kind.ToLowerInvariant())" + $(if ($Because) { ", because $Because" })
    throw [Management.Automation.ErrorRecord]::new([Exception]::new($text), "PesterTest$kind", 'InvalidResult', $text)
}

function __NewResult($Duration) {
    $tests = $__state.Run.Tests
    $by = @{}
    foreach ($result in 'Passed', 'Failed', 'Skipped', 'Inconclusive', 'NotRun') { $by[$result] = @($tests | Where-Object Result -EQ $result) }
    $failed = $by.Failed.Count + $__state.Run.FailedBlocks.Count + $__state.Run.FailedContainers
    [pscustomobject]@{
        PSTypeName = 'PesterSubset.Run'
        Result = if ($failed -gt 0) { 'Failed' } else { 'Passed' }
        FailedCount = $by.Failed.Count; FailedBlocksCount = $__state.Run.FailedBlocks.Count; FailedContainersCount = $__state.Run.FailedContainers
        PassedCount = $by.Passed.Count; SkippedCount = $by.Skipped.Count; InconclusiveCount = $by.Inconclusive.Count; NotRunCount = $by.NotRun.Count
        TotalCount = $tests.Count; Duration = $Duration
        Tests = @($tests); Failed = $by.Failed; Passed = $by.Passed; Skipped = $by.Skipped; NotRun = $by.NotRun
    }
}
