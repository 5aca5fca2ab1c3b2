# Discovery: the words of a test file that build the tree.

function __NewBlock($Kind, $Name, $Parent, $Data, $HasData, $Tag, $Skip) {
    [pscustomobject]@{
        Kind = $Kind; Name = $Name; Parent = $Parent; Data = $Data; HasData = $HasData; Tag = @($Tag); Skip = [bool]$Skip
        BeforeAll = [Collections.Generic.List[scriptblock]]::new(); AfterAll = [Collections.Generic.List[scriptblock]]::new()
        BeforeEach = [Collections.Generic.List[scriptblock]]::new(); AfterEach = [Collections.Generic.List[scriptblock]]::new()
        Items = [Collections.Generic.List[object]]::new()
        Result = 'NotRun'; ErrorRecord = $null; ShouldRun = $false
    }
}

function __NewTest($Name, $Parent, $Body, $Data, $HasData, $Tag, $Skip) {
    [pscustomobject]@{
        PSTypeName = 'PesterSubset.Test'
        Kind = 'Test'; Name = $Name; ExpandedName = $Name; ExpandedPath = $null; Parent = $Parent; Body = $Body; Data = $Data; HasData = $HasData
        Tag = @($Tag); Skip = [bool]$Skip; Result = 'NotRun'; ErrorRecord = $null; Because = $null; Duration = [timespan]::Zero; ShouldRun = $false
    }
}

function __RequireBlock($Word) {
    if ($null -eq $__state.Current) {
        throw "$Word belongs in a test file that Invoke-Pester runs."
    }
}

function __AddBlock($Kind, $Name, $Body, $ForEach, $HasForEach, $Tag, $Skip) {
    __RequireBlock $Kind
    if ($null -eq $Body) { throw "$Kind '$Name' has no script block; is its opening brace on the next line?" }
    $__cases = @(if ($HasForEach) { $ForEach } else { , $null })
    foreach ($__case in $__cases) {
        $__block = __NewBlock $Kind $Name $__state.Current $__case $HasForEach $Tag ($Skip -or $__state.Current.Skip)
        $__state.Current.Items.Add($__block)
        $__outer = $__state.Current
        $__state.Current = $__block
        try {
            __DiscoverIn $__block $Body
        }
        finally {
            $__state.Current = $__outer
        }
    }
}

# The body runs in a scope of its own, with the variables of its -ForEach case.
function __DiscoverIn($__block, $__body) {
    if ($__block.HasData) {
        $_ = $__block.Data
        . __SetCase $__block.Data
    }
    $null = & $__body
}

# Dot-sourced: sets the variables of one -ForEach case in the caller's scope; $_ is the caller's to set, it belongs to each function.
function __SetCase($__data) {
    if ($__data -is [Collections.IDictionary]) {
        foreach ($__key in @($__data.Keys)) { Set-Variable -Name $__key -Value $__data[$__key] }
    }
}

function Describe {
    param(
        [Parameter(Mandatory, Position = 0)] [string] $Name,
        [Parameter(Position = 1)] [scriptblock] $Fixture,
        [string[]] $Tag = @(),
        [AllowNull()] [AllowEmptyCollection()] [object] $ForEach,
        [switch] $Skip
    )
    __AddBlock 'Describe' $Name $Fixture $ForEach $PSBoundParameters.ContainsKey('ForEach') $Tag $Skip
}

function Context {
    param(
        [Parameter(Mandatory, Position = 0)] [string] $Name,
        [Parameter(Position = 1)] [scriptblock] $Fixture,
        [string[]] $Tag = @(),
        [AllowNull()] [AllowEmptyCollection()] [object] $ForEach,
        [switch] $Skip
    )
    __AddBlock 'Context' $Name $Fixture $ForEach $PSBoundParameters.ContainsKey('ForEach') $Tag $Skip
}

function It {
    param(
        [Parameter(Mandatory, Position = 0)] [string] $Name,
        [Parameter(Position = 1)] [scriptblock] $Test,
        [Alias('TestCases')] [AllowNull()] [AllowEmptyCollection()] [object] $ForEach,
        [string[]] $Tag = @(),
        [switch] $Skip
    )
    __RequireBlock 'It'
    if ($null -eq $Test) { throw "It '$Name' has no script block; is its opening brace on the next line?" }
    $hasCases = $PSBoundParameters.ContainsKey('ForEach')
    $cases = @(if ($hasCases) { $ForEach } else { , $null })
    foreach ($case in $cases) {
        $__state.Current.Items.Add((__NewTest $Name $__state.Current $Test $case $hasCases $Tag ($Skip -or $__state.Current.Skip)))
    }
}

function BeforeAll { param([Parameter(Mandatory, Position = 0)] [scriptblock] $Scriptblock) __RequireBlock 'BeforeAll'; $__state.Current.BeforeAll.Add($Scriptblock) }
function AfterAll { param([Parameter(Mandatory, Position = 0)] [scriptblock] $Scriptblock) __RequireBlock 'AfterAll'; $__state.Current.AfterAll.Add($Scriptblock) }
function BeforeEach { param([Parameter(Mandatory, Position = 0)] [scriptblock] $Scriptblock) __RequireBlock 'BeforeEach'; $__state.Current.BeforeEach.Add($Scriptblock) }
function AfterEach { param([Parameter(Mandatory, Position = 0)] [scriptblock] $Scriptblock) __RequireBlock 'AfterEach'; $__state.Current.AfterEach.Add($Scriptblock) }

# Runs at discovery, in the scope that defines the tests, so that its variables can feed -ForEach.
function BeforeDiscovery {
    param([Parameter(Mandatory, Position = 0)] [scriptblock] $Scriptblock)
    $__before = @(Get-Variable -Scope 0).Name + '__before'
    . $Scriptblock
    foreach ($__new in @(Get-Variable -Scope 0 | Where-Object { $_.Name -notin $__before -and $_.Name -notin '_', '__new', 'PSItem' })) {
        Set-Variable -Scope 1 -Name $__new.Name -Value $__new.Value
    }
}

# Marks what the filters leave to run; a block runs when anything in it does.
function __SelectTests($Block, $Path, $Tags, $Filter, $Excluded) {
    foreach ($item in $Block.Items) {
        $name = if ($Path) { "$Path.$($item.Name)" } else { $item.Name }
        $allTags = @($Tags) + @($item.Tag)
        $out = $Excluded -or [bool]@($item.Tag | Where-Object { $tag = $_; @($Filter.ExcludeTag | Where-Object { $tag -like $_ }).Count -gt 0 }).Count
        if ($item.Kind -ne 'Test') {
            __SelectTests $item $name $allTags $Filter $out
            if ($item.ShouldRun) { $Block.ShouldRun = $true }
            continue
        }
        $wanted = -not $out
        if (@($Filter.Tag).Count -gt 0) {
            $wanted = $wanted -and [bool]@($allTags | Where-Object { $tag = $_; @($Filter.Tag | Where-Object { $tag -like $_ }).Count -gt 0 }).Count
        }
        if (@($Filter.FullName).Count -gt 0) {
            $wanted = $wanted -and [bool]@($Filter.FullName | Where-Object { $name -like $_ }).Count
        }
        $item.ShouldRun = $wanted
        if ($wanted) { $Block.ShouldRun = $true }
    }
}
