# The subset of Pester 5 that this project's test files use, for shells without Pester. Two phases, as there: discovery runs the files and
# collects blocks and tests; the run then executes setups, tests and teardowns. Test files run in this module's session state, so that the
# scopes of BeforeAll, BeforeEach and It nest as plain function calls; what the runner itself keeps there begins with "__".
Set-StrictMode -Off

# Current: the block whose body discovery is in; Run: the state of the run. One object found by name, not $script: variables: a test file has a
# script scope of its own, and functions called from it would look for $script: there.
$__state = [pscustomobject]@{ Current = $null; Run = $null }

. $PSScriptRoot/Discovery.ps1
. $PSScriptRoot/Should.ps1
. $PSScriptRoot/Run.ps1
. $PSScriptRoot/Output.ps1

function New-PesterConfiguration {
    [CmdletBinding()]
    param([hashtable] $Hashtable = @{})
    $configuration = [pscustomobject]@{
        Run    = [pscustomobject]@{ Path = @('.'); ExcludePath = @(); PassThru = $false; Exit = $false }
        Filter = [pscustomobject]@{ Tag = @(); ExcludeTag = @(); FullName = @() }
        Output = [pscustomobject]@{ Verbosity = 'Normal' }
    }
    foreach ($section in $Hashtable.Keys) {
        foreach ($key in $Hashtable[$section].Keys) {
            if ($null -eq $configuration.$section -or $null -eq $configuration.$section.PSObject.Properties[$key]) {
                throw "The option $section.$key is not among those this runner knows."
            }
            $configuration.$section.$key = $Hashtable[$section][$key]
        }
    }
    $configuration
}

function Invoke-Pester {
    [CmdletBinding(DefaultParameterSetName = 'Simple')]
    param(
        [Parameter(Position = 0, ParameterSetName = 'Simple')] [Alias('Script')] [string[]] $Path = '.',
        [Parameter(ParameterSetName = 'Simple')] [string[]] $ExcludePath = @(),
        [Parameter(ParameterSetName = 'Simple')] [Alias('Tag', 'Tags')] [string[]] $TagFilter = @(),
        [Parameter(ParameterSetName = 'Simple')] [Alias('ExcludeTag')] [string[]] $ExcludeTagFilter = @(),
        [Parameter(ParameterSetName = 'Simple')] [Alias('Name')] [string[]] $FullNameFilter = @(),
        [Parameter(ParameterSetName = 'Simple')] [ValidateSet('None', 'Normal', 'Detailed', 'Diagnostic')] [string] $Output = 'Normal',
        [Parameter(ParameterSetName = 'Simple')] [switch] $CI,
        [Parameter(ParameterSetName = 'Simple')] [switch] $PassThru,
        [Parameter(ParameterSetName = 'Advanced')] [object] $Configuration
    )
    if ($Configuration -is [hashtable]) { $Configuration = New-PesterConfiguration -Hashtable $Configuration }
    if ($null -eq $Configuration) {
        $Configuration = New-PesterConfiguration -Hashtable @{
            Run    = @{ Path = $Path; ExcludePath = $ExcludePath; PassThru = [bool]$PassThru; Exit = [bool]$CI }
            Filter = @{ Tag = $TagFilter; ExcludeTag = $ExcludeTagFilter; FullName = $FullNameFilter }
            Output = @{ Verbosity = $Output }
        }
    }
    $result = __InvokeRun $Configuration
    if ($Configuration.Run.PassThru) { $result }
    $failures = $result.FailedCount + $result.FailedBlocksCount + $result.FailedContainersCount
    if ($Configuration.Run.Exit -and $failures -gt 0) { exit $failures }
}

Export-ModuleMember -Function Invoke-Pester, New-PesterConfiguration, Describe, Context, It, BeforeAll, AfterAll, BeforeEach, AfterEach,
    BeforeDiscovery, Should, Set-ItResult
