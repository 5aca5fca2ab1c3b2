# Help: complete, in step with the cmdlets, and its examples run.
BeforeDiscovery {
    $root = Split-Path -Parent (Split-Path -Parent $PSScriptRoot)
    . (Join-Path $root 'build/HelpSource.ps1')
    $pages = Read-HelpSource (Join-Path $root 'src/VirtPS/Help/VirtPS.help.md')
    $examples = foreach ($page in $pages) {
        $number = 0
        foreach ($example in $page.Examples) {
            $number++
            @{ Command = $page.Name; Number = $number; Code = $example.Code; Setup = $page.Setup; NoRun = $example.NoRun }
        }
    }
}

BeforeAll {
    Import-Module VirtPS
    $script:root = Split-Path -Parent (Split-Path -Parent $PSScriptRoot)
    $script:oldHome = $env:VIRTPS_HOME
    $env:VIRTPS_HOME = Join-Path $TestDrive 'store'
}

AfterAll { $env:VIRTPS_HOME = $script:oldHome }

Describe 'Help' {
    It 'is in step with the cmdlets' { & (Join-Path $root 'build/Build-Help.ps1') -Check | Should -BeNullOrEmpty }

    It 'is found by Get-Help for <_>' -ForEach @($pages.Name) {
        $help = Get-Help $_
        $help.Synopsis | Should -Not -BeNullOrEmpty
        "$($help.Synopsis)" | Should -Not -Match '^\s*\w+-Virt\w+ \['
        @($help.examples.example).Count | Should -BeGreaterThan 0
    }
}

Describe 'Examples' {
    BeforeEach {
        # What an example makes lies in a folder of its own.
        $here = Join-Path $TestDrive ([guid]::NewGuid().ToString('N'))
        $null = New-Item -ItemType Directory -Path $here
        Push-Location -LiteralPath $here
    }

    AfterEach {
        Pop-Location
        Get-VirtVM -ErrorAction Ignore | ForEach-Object {
            if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
            Remove-VirtVM -Id $_.Id -Force
        }
    }

    It '<Command>, example <Number>, runs' -ForEach $examples {
        if ($NoRun) {
            Set-ItResult -Skipped -Because $NoRun
            return
        }

        if ($Setup) { & ([scriptblock]::Create($Setup)) }
        $ErrorActionPreference = 'Stop'
        $null = & ([scriptblock]::Create($Code))
    }
}
