# Should and its operators.

function __ShowValue($Value, [switch] $Bare) {
    if ($null -eq $Value) { return '$null' }
    if ($Value -is [string]) { return $(if ($Bare) { $Value } else { "'$Value'" }) }
    if ($Value -is [bool]) { return "`$$Value".ToLowerInvariant() }
    if ($Value -is [datetime]) { return $Value.ToString('o') }
    if ($Value -is [type]) { return "[$($Value.FullName)]" }
    if ($Value -is [Collections.IDictionary]) { return '@{' + ((@($Value.Keys) | ForEach-Object { "$_=$(__ShowValue $Value[$_])" }) -join '; ') + '}' }
    if ($Value -is [Collections.IEnumerable]) { return '@(' + ((@($Value) | ForEach-Object { __ShowValue $_ }) -join ', ') + ')' }
    "$Value"
}

function __IsCollection($Value) { $Value -is [Collections.IEnumerable] -and $Value -isnot [string] -and $Value -isnot [Collections.IDictionary] }

function __AreEqual($Actual, $Expected, [bool] $Exact) {
    if ((__IsCollection $Actual) -or (__IsCollection $Expected)) {
        $a = @($Actual); $e = @($Expected)
        if ($a.Count -ne $e.Count) { return $false }
        for ($i = 0; $i -lt $a.Count; $i++) {
            if (-not (__AreEqual $a[$i] $e[$i] $Exact)) { return $false }
        }
        return $true
    }
    if ($null -eq $Actual -or $null -eq $Expected) { return ($null -eq $Actual -and $null -eq $Expected) }
    if ($Exact) { return [bool]($Expected -ceq $Actual) }
    [bool]($Expected -eq $Actual)
}

function __ToType($Expected) {
    if ($Expected -is [type]) { return $Expected }
    $name = "$Expected".Trim('[', ']', ' ')
    $type = $name -as [type]
    if ($null -eq $type) { throw "Should -BeOfType: there is no type [$name]." }
    $type
}

# An operator's answer: did it hold, and the two halves of the sentence for when it did not.
function __Answer($Holds, $Expectation, $But) { [pscustomobject]@{ Holds = [bool]$Holds; Expectation = $Expectation; But = $But } }

function __CheckThrow($Actual, $ExpectedMessage, $ErrorId, $ExceptionType, $PassThruBox) {
    if ($Actual -isnot [scriptblock]) { throw 'Should -Throw needs a script block as its input.' }
    $caught = $null
    try { $null = & $Actual } catch { $caught = $_ }
    $PassThruBox.Value = $caught
    $wanted = 'an exception'
    if ($ExceptionType) { $wanted += " of type [$ExceptionType]" }
    if ($ExpectedMessage) { $wanted += " with message like '$ExpectedMessage'" }
    if ($ErrorId) { $wanted += " with FullyQualifiedErrorId '$ErrorId'" }
    if ($null -eq $caught) { return __Answer $false "$wanted to be thrown" 'but no exception was thrown' }
    $problems = @()
    if ($ExceptionType -and $caught.Exception -isnot $ExceptionType) { $problems += "the exception type was [$($caught.Exception.GetType())]" }
    if ($ExpectedMessage -and $caught.Exception.Message -notlike $ExpectedMessage -and "$caught" -notlike $ExpectedMessage) { $problems += "the message was '$($caught.Exception.Message)'" }
    if ($ErrorId -and $caught.FullyQualifiedErrorId -notlike $ErrorId -and $caught.FullyQualifiedErrorId -notlike "$ErrorId,*") { $problems += "the FullyQualifiedErrorId was '$($caught.FullyQualifiedErrorId)'" }
    __Answer ($problems.Count -eq 0) "$wanted to be thrown" ("but " + ($(if ($problems) { $problems -join ' and ' } else { "an exception '$($caught.Exception.Message)' was thrown" })))
}

function __CheckOperator($Operator, $Actual, $Items, $Expected) {
    $a = __ShowValue $Actual
    $e = __ShowValue $Expected
    switch ($Operator) {
        'Be' { __Answer (__AreEqual $Actual $Expected $false) "$e" "but got $a" }
        'BeExactly' { __Answer (__AreEqual $Actual $Expected $true) "exactly $e" "but got $a" }
        'BeNullOrEmpty' { __Answer ($null -eq $Actual -or $Items.Count -eq 0 -or ($Actual -is [string] -and $Actual.Length -eq 0) -or ((__IsCollection $Actual) -and @($Actual).Count -eq 0) -or ($Actual -is [Collections.IDictionary] -and $Actual.Count -eq 0)) '$null or empty' "but got $a" }
        'BeTrue' { __Answer ([bool]$Actual) '$true' "but got $a" }
        'BeFalse' { __Answer (-not $Actual) '$false' "but got $a" }
        'Match' { __Answer ($Actual -match $Expected) "regular expression $e to match $a" 'but it did not match' }
        'MatchExactly' { __Answer ($Actual -cmatch $Expected) "regular expression $e to match $a exactly" 'but it did not match' }
        'BeLike' { __Answer ($Actual -like $Expected) "like wildcard $e to match $a" 'but it did not match' }
        'BeLikeExactly' { __Answer ($Actual -clike $Expected) "like wildcard $e to match $a exactly" 'but it did not match' }
        'BeGreaterThan' { __Answer ($Actual -gt $Expected) "the actual value to be greater than $e" "but got $a" }
        'BeGreaterOrEqual' { __Answer ($Actual -ge $Expected) "the actual value to be greater than or equal to $e" "but got $a" }
        'BeLessThan' { __Answer ($Actual -lt $Expected) "the actual value to be less than $e" "but got $a" }
        'BeLessOrEqual' { __Answer ($Actual -le $Expected) "the actual value to be less than or equal to $e" "but got $a" }
        'BeIn' { __Answer (@($Expected) -contains $Actual) "collection $e to contain $a" 'but it was not found' }
        'Contain' { __Answer (@($Items) -contains $Expected) "$e to be found in collection $(__ShowValue $Items)" 'but it was not found' }
        'HaveCount' { __Answer (@($Items).Count -eq $Expected) "a collection with size $Expected" "but got collection with size $(@($Items).Count) $(__ShowValue $Items)" }
        'Exist' { __Answer (Test-Path -Path "$Actual") "path $a to exist" 'but it did not exist' }
        'BeOfType' {
            $type = __ToType $Expected
            $got = if ($null -eq $Actual) { '$null' } else { "$a with type [$($Actual.GetType())]" }
            __Answer ($Actual -is $type) "the value to have type [$type] or any of its subtypes" "but got $got"
        }
        'HaveParameter' { __Answer ($null -ne $Actual -and $Actual.Parameters.ContainsKey("$Expected")) "command $($Actual.Name) to have a parameter $Expected" 'but the parameter is missing' }
        default { throw "Should has no operator here: '$Operator'." }
    }
}

function Should {
    [CmdletBinding(PositionalBinding = $false)]
    param(
        [Parameter(ValueFromPipeline)] [AllowNull()] [AllowEmptyString()] [AllowEmptyCollection()] [object] $ActualValue,
        [Parameter(Position = 0)] [AllowNull()] [AllowEmptyString()] [AllowEmptyCollection()] [Alias('ExpectedMessage', 'RegularExpression')] [object] $ExpectedValue,
        [switch] $Not,
        [string] $Because,
        [string] $ErrorId,
        [type] $ExceptionType,
        [switch] $PassThru,
        [Alias('EQ')] [switch] $Be,
        [Alias('CEQ')] [switch] $BeExactly,
        [switch] $BeNullOrEmpty,
        [switch] $BeTrue,
        [switch] $BeFalse,
        [switch] $Match,
        [Alias('CMATCH')] [switch] $MatchExactly,
        [Alias('LIKE')] [switch] $BeLike,
        [Alias('CLIKE')] [switch] $BeLikeExactly,
        [Alias('GT')] [switch] $BeGreaterThan,
        [Alias('GE')] [switch] $BeGreaterOrEqual,
        [Alias('LT')] [switch] $BeLessThan,
        [Alias('LE')] [switch] $BeLessOrEqual,
        [switch] $BeIn,
        [switch] $Contain,
        [switch] $HaveCount,
        [switch] $Exist,
        [Alias('HaveType')] [switch] $BeOfType,
        [switch] $HaveParameter,
        [switch] $Throw
    )
    begin { $items = [Collections.Generic.List[object]]::new() }
    process {
        if ($MyInvocation.ExpectingInput) { $items.Add($ActualValue) }
    }
    end {
        $operators = 'Be', 'BeExactly', 'BeNullOrEmpty', 'BeTrue', 'BeFalse', 'Match', 'MatchExactly', 'BeLike', 'BeLikeExactly', 'BeGreaterThan',
            'BeGreaterOrEqual', 'BeLessThan', 'BeLessOrEqual', 'BeIn', 'Contain', 'HaveCount', 'Exist', 'BeOfType', 'HaveParameter', 'Throw'
        $given = @($operators | Where-Object { $PSBoundParameters.ContainsKey($_) })
        if ($given.Count -ne 1) { throw "Should needs exactly one operator; it got $($given.Count)." }
        if ($PSBoundParameters.ContainsKey('ActualValue') -and -not $MyInvocation.ExpectingInput) {
            if (__IsCollection $ActualValue) { foreach ($item in $ActualValue) { $items.Add($item) } } else { $items.Add($ActualValue) }
            $actual = $ActualValue
        }
        else {
            $actual = switch ($items.Count) { 0 { $null } 1 { , $items[0] } default { , $items.ToArray() } }
        }
        $box = @{ Value = $null }
        # A single piped value is the collection's only element, except that an array piped whole (with a comma) is the collection.
        $collection = @(if ($items.Count -eq 1 -and (__IsCollection $items[0])) { $items[0] } else { $items })
        $answer = if ($given[0] -eq 'Throw') { __CheckThrow $actual $ExpectedValue $ErrorId $ExceptionType $box }
        else { __CheckOperator $given[0] $actual $collection $ExpectedValue }
        if ($answer.Holds -ne [bool]$Not) {
            if ($PassThru -and $given[0] -eq 'Throw') { $box.Value }
            return
        }
        $negation = if ($Not) { 'not ' }
        $reason = if ($Because) { ", because $($Because -replace '^because\s+', '')" }
        $but = if ($Not -and $given[0] -in 'Match', 'MatchExactly', 'BeLike', 'BeLikeExactly') { 'but it did match' }
        elseif ($Not -and $given[0] -in 'BeIn', 'Contain') { 'but it was found' }
        elseif ($Not -and $given[0] -eq 'Exist') { 'but it did exist' }
        elseif ($Not -and $given[0] -eq 'HaveParameter') { 'but the parameter is there' }
        else { $answer.But }
        $message = "Expected $negation$($answer.Expectation)$reason, $but."
        $record = [Management.Automation.ErrorRecord]::new([Exception]::new($message), 'PesterAssertionFailed', 'InvalidResult', $actual)
        $PSCmdlet.ThrowTerminatingError($record)
    }
}
