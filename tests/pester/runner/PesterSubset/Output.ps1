# What a person sees, in Pester's manner.

function __Detailed { $__state.Run.Verbosity -in 'Detailed', 'Diagnostic' }

function __WriteContainer($Container) {
    if ($__state.Run.Verbosity -eq 'None') { return }
    if (__Detailed) { Write-Host "`nRunning tests from '$($Container.Name)'" -ForegroundColor Magenta }
    if ($Container.Result -eq 'Failed') {
        Write-Host "[-] Discovery in $($Container.Name) failed with:" -ForegroundColor Red
        __WriteError $Container.ErrorRecord ''
    }
}

function __WriteBlock($Block, $Depth) {
    if (-not (__Detailed)) { return }
    $word = if ($Block.Kind -eq 'Describe') { 'Describing' } else { 'Context' }
    Write-Host "$(' ' * ($Depth - 1))$word $(__ExpandName $Block.Name $Block)" -ForegroundColor Green
}

function __WriteBlockFailure($Block, $Depth) {
    if ($__state.Run.Verbosity -eq 'None') { return }
    Write-Host "$(' ' * $Depth)[-] $($Block.Kind) $(__ExpandName $Block.Name $Block) failed" -ForegroundColor Red
    __WriteError $Block.ErrorRecord (' ' * ($Depth + 1))
}

function __WriteTest($Test, $Depth) {
    if ($__state.Run.Verbosity -eq 'None') { return }
    if (-not (__Detailed) -and $Test.Result -ne 'Failed') { return }
    $indent = ' ' * $Depth
    $name = if (__Detailed) { $Test.ExpandedName } else { $Test.ExpandedPath }
    $time = '{0:0}ms' -f $Test.Duration.TotalMilliseconds
    switch ($Test.Result) {
        'Passed' { Write-Host "$indent[+] $name $time" -ForegroundColor DarkGreen }
        'Failed' {
            Write-Host "$indent[-] $name $time" -ForegroundColor Red
            __WriteError $Test.ErrorRecord "$indent "
        }
        'Skipped' { Write-Host "$indent[!] $name$(if ($Test.Because) { ", $($Test.Because)" })" -ForegroundColor Yellow }
        'Inconclusive' { Write-Host "$indent[?] $name$(if ($Test.Because) { ", $($Test.Because)" })" -ForegroundColor Cyan }
    }
}

function __WriteError($ErrorRecord, $Indent) {
    foreach ($line in ($ErrorRecord.ToString() -split '\r?\n')) { Write-Host "$Indent$line" -ForegroundColor Red }
    # The frames of the runner itself say nothing about the test.
    $frames = @($ErrorRecord.ScriptStackTrace -split '\r?\n' | Where-Object { $_ -and $_ -notmatch 'PesterSubset' -and $_ -notmatch '<No file>' })
    foreach ($frame in ($frames | Select-Object -First 3)) { Write-Host "$Indent$frame" -ForegroundColor Red }
}

function __WriteSummary($Result) {
    if ($__state.Run.Verbosity -eq 'None') { return }
    $colour = if ($Result.Result -eq 'Passed') { 'Green' } else { 'Red' }
    Write-Host ('Tests completed in {0:0.00}s' -f $Result.Duration.TotalSeconds)
    $text = "Tests Passed: $($Result.PassedCount), Failed: $($Result.FailedCount), Skipped: $($Result.SkippedCount)"
    if ($Result.InconclusiveCount) { $text += ", Inconclusive: $($Result.InconclusiveCount)" }
    $text += ", NotRun: $($Result.NotRunCount)"
    Write-Host $text -ForegroundColor $colour
    if ($Result.FailedBlocksCount) { Write-Host "BeforeAll or AfterAll failed: $($Result.FailedBlocksCount)" -ForegroundColor Red }
    if ($Result.FailedContainersCount) { Write-Host "Container failed: $($Result.FailedContainersCount)" -ForegroundColor Red }
}
