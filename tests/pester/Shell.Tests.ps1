# What users of the shell rely on. Everything here holds in pwsh too: where it would not, the shell is wrong.
BeforeDiscovery {
    $words = @('alpha', 'beta')
}

Describe 'The runner' {
    BeforeAll { $fromBeforeAll = 'set'; $script:count = 0 }
    BeforeEach { $script:count++; $each = $script:count }

    It 'shows BeforeAll variables to tests' { $fromBeforeAll | Should -Be 'set' }
    It 'runs BeforeEach before each test' { $each | Should -Be 2 }
    It 'keeps what one test sets from the next (first)' { $fromBeforeAll = 'changed'; $fromBeforeAll | Should -Be 'changed' }
    It 'keeps what one test sets from the next (second)' { $fromBeforeAll | Should -Be 'set' }
    It 'feeds discovery data: <_>' -ForEach $words { $_ | Should -BeIn 'alpha', 'beta' }
    It 'adds <a> and <b>' -TestCases @(@{ a = 1; b = 2; sum = 3 }, @{ a = 2; b = 2; sum = 4 }) { $a + $b | Should -Be $sum }
    It 'offers TestDrive' {
        Set-Content -Path (Join-Path $TestDrive 'x.txt') -Value 'x'
        'TestDrive:/x.txt' | Should -Exist
    }
    It 'skips' -Skip { throw 'never run' }

    Context 'with data <name>' -ForEach @(@{ name = 'one' }) {
        It 'sees the block''s data' { $name | Should -Be 'one' }
    }
}

Describe 'Should' {
    It 'fails when it must: <text>' -ForEach @(
        @{ text = 'Be'; block = { 1 | Should -Be 2 } }
        @{ text = 'Not Be'; block = { 1 | Should -Not -Be 1 } }
        @{ text = 'BeExactly'; block = { 'a' | Should -BeExactly 'A' } }
        @{ text = 'BeNullOrEmpty'; block = { 'a' | Should -BeNullOrEmpty } }
        @{ text = 'BeTrue'; block = { $false | Should -BeTrue } }
        @{ text = 'Match'; block = { 'a' | Should -Match 'b' } }
        @{ text = 'BeLike'; block = { 'a' | Should -BeLike 'b*' } }
        @{ text = 'BeGreaterThan'; block = { 1 | Should -BeGreaterThan 1 } }
        @{ text = 'BeLessOrEqual'; block = { 2 | Should -BeLessOrEqual 1 } }
        @{ text = 'Contain'; block = { 1, 2 | Should -Contain 3 } }
        @{ text = 'HaveCount'; block = { 1, 2 | Should -HaveCount 3 } }
        @{ text = 'BeOfType'; block = { 1 | Should -BeOfType [string] } }
        @{ text = 'Exist'; block = { '/no/such/path' | Should -Exist } }
        @{ text = 'Throw'; block = { { 1 } | Should -Throw } }
        @{ text = 'Throw with another message'; block = { { throw 'a' } | Should -Throw -ExpectedMessage 'b' } }
        @{ text = 'Not Throw'; block = { { throw 'a' } | Should -Not -Throw } }
    ) { $block | Should -Throw -ErrorId 'PesterAssertionFailed' }

    It 'compares arrays' { 1, 2, 3 | Should -Be @(1, 2, 3) }
    It 'gives the reason' { { 1 | Should -Be 2 -Because 'reasons' } | Should -Throw -ExpectedMessage '*because reasons*' }
    It 'matches error ids' { { Get-Item -LiteralPath /no/such -ErrorAction Stop } | Should -Throw -ErrorId 'PathNotFound,*' }
    It 'takes an empty collection' { @() | Should -BeNullOrEmpty; @() | Should -HaveCount 0 }
}

Describe 'Everyday commands' {
    It 'selects, sorts, groups and measures' {
        (1..10 | Select-Object -First 2 -Skip 1) | Should -Be @(2, 3)
        (3, 1, 2 | Sort-Object -Descending) | Should -Be @(3, 2, 1)
        ('a', 'b', 'A' | Group-Object | Where-Object Name -EQ 'a').Count | Should -Be 2
        (1..4 | Measure-Object -Sum -Average).Average | Should -Be 2.5
    }
    It 'stops an endless source when enough has come' {
        (& { $i = 0; while ($true) { $i++; $i } } | Select-Object -First 3) | Should -Be @(1, 2, 3)
    }
    It 'round-trips JSON' {
        $text = @{ a = 1; b = @('x', @{ c = $true }); d = $null } | ConvertTo-Json -Depth 5
        $back = $text | ConvertFrom-Json
        $back.b[1].c | Should -BeTrue
        $back.a | Should -BeOfType [long]
        { '{ broken' | ConvertFrom-Json } | Should -Throw
    }
    It 'round-trips CSV with quotes and line breaks' {
        $back = [pscustomobject]@{ a = "x`ny"; b = 'say "hi", you' } | ConvertTo-Csv | ConvertFrom-Csv
        $back.a | Should -Be "x`ny"
        $back.b | Should -Be 'say "hi", you'
    }
    It 'works through providers' {
        $env:VIRTPS_SHELL_TEST = 'v'
        (Get-Item env:VIRTPS_SHELL_TEST).Value | Should -Be 'v'
        Get-Content env:VIRTPS_SHELL_TEST | Should -Be 'v'
        Remove-Item env:VIRTPS_SHELL_TEST
        Test-Path env:VIRTPS_SHELL_TEST | Should -BeFalse
        function NewFunction { 5 }
        (Get-ChildItem function:NewFunct*).Name | Should -Be 'NewFunction'
    }
    It 'takes names with brackets literally' {
        $odd = Join-Path $TestDrive 'a[1].txt'
        Set-Content -LiteralPath $odd -Value 'odd'
        Test-Path -Path $odd | Should -BeFalse
        Get-Content -LiteralPath $odd | Should -Be 'odd'
        Remove-Item -LiteralPath $odd
        Test-Path -LiteralPath $odd | Should -BeFalse
    }
    It 'removes a link to a folder and not what is in the folder' -Skip:$IsWindows {
        $folder = New-Item -ItemType Directory (Join-Path $TestDrive 'real')
        Set-Content (Join-Path $folder 'kept.txt') 'x'
        $link = Join-Path $TestDrive 'link'
        $null = New-Item -ItemType SymbolicLink -Path $link -Target $folder.FullName
        Remove-Item $link
        Test-Path $link | Should -BeFalse
        Join-Path $folder 'kept.txt' | Should -Exist
    }
    It 'does nothing with -WhatIf' {
        $file = Join-Path $TestDrive 'keep.txt'
        Set-Content $file 'x'
        Remove-Item $file -WhatIf
        $file | Should -Exist
    }
    It 'shows objects as tables and lists' {
        $text = [pscustomobject]@{ Name = 'n'; Value = 7 } | Format-Table | Out-String
        $text | Should -Match 'Name\s+Value'
        [pscustomobject]@{ Name = 'n' } | Format-List | Out-String | Should -Match 'Name\s+: n'
    }
    It 'keeps errors apart: one bad record does not stop the others' {
        $found = Get-Item -Path $TestDrive, /no/such, $TestDrive -ErrorAction SilentlyContinue -ErrorVariable problems
        $found | Should -HaveCount 2
        $problems | Should -HaveCount 1
    }
    It 'compares objects' {
        $sides = Compare-Object 1, 2, 3 2, 3, 4 | Sort-Object InputObject
        $sides.SideIndicator | Should -Be @('<=', '=>')
    }
    It 'sets variables in the scope asked for' {
        function Inner { Set-Variable -Name v -Value inner; Set-Variable -Name w -Value outer -Scope 1 }
        $v = 'mine'
        Inner
        $v | Should -Be 'mine'
        $w | Should -Be 'outer'
    }
    It 'finds text with Select-String' {
        $match = 'one', 'two', 'three' | Select-String '^t'
        $match.Line | Should -Be @('two', 'three')
        $match[1].LineNumber | Should -Be 3
    }
}
