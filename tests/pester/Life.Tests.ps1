# A VM's life as a user sees it, with the embedded guest.
BeforeAll {
    Import-Module VirtPS
    $script:oldHome = $env:VIRTPS_HOME
    $env:VIRTPS_HOME = Join-Path $TestDrive 'store'
    function Remove-All {
        Get-VirtVM -ErrorAction Ignore | ForEach-Object {
            if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
            Remove-VirtVM -Id $_.Id -Force
        }
    }
}

AfterAll {
    Remove-All
    $env:VIRTPS_HOME = $script:oldHome
}

Describe 'A VM from New- to Remove-VirtVM' {
    BeforeAll {
        $script:made = New-VirtVM -Name life -Memory 32MB -Strategy Full
        Start-VirtVM -Name life
        Wait-VirtVM -Name life -For Console -Pattern 'RINGLAB-OK' -Timeout 60
    }

    AfterAll { Remove-All }

    It 'is made switched off' {
        $made.State | Should -Be 'Off'
        $made.Memory | Should -Be 32MB
        $made.WorkerProcessId | Should -BeNullOrEmpty
    }

    It 'runs in a worker of its own' {
        $vm = Get-VirtVM life
        $vm.State | Should -Be 'Running'
        # What this host can run is what its VMs run.
        $tier = if ((Get-VirtStrategy Full).Reason -like 'The translator can run*') { 'Translator' } else { 'Interpreter' }
        $vm.EngineTier | Should -Be $tier
        $vm.MemoryAssigned | Should -Be 32MB
        (Get-Process -Id $vm.WorkerProcessId).Id | Should -Not -Be $PID
    }

    It 'has the properties that scripts rely on' {
        $names = (Get-VirtVM life).PSObject.Properties.Name
        foreach ($name in 'Id', 'Name', 'State', 'Strategy', 'EngineTier', 'ProcessorCount', 'Memory', 'MemoryAssigned', 'CPUUsage', 'Uptime', 'WorkerProcessId',
            'StatusReason', 'CreationTime', 'Path') { $names | Should -Contain $name }
    }

    It 'shows its console as strings, and as bytes with -Raw' {
        $lines = @(Receive-VirtConsole -Name life)
        $lines | Should -Not -BeNullOrEmpty
        $lines[0] | Should -BeOfType [string]
        ($lines -join "`n") | Should -Match 'ring 3'
        $pieces = @(Receive-VirtConsole -Name life -Raw)
        $pieces[0].GetType().FullName | Should -Be 'System.Byte[]'
    }

    It 'has used all four rings' {
        $text = (Receive-VirtConsole -Name life) -join "`n"
        foreach ($ring in 0..3) { $text | Should -Match "\[ring $ring\]" }
    }

    It 'shows its ring states through the pipeline' {
        $states = @(Get-VirtVM | Where-Object State -eq Running | Get-VirtRingState)
        $states.Count | Should -Be 1
        $states[0].GuestRing | Should -BeIn 0, 3
        $states[0].HostRing | Should -Be 3
        $states[0].Fidelity | Should -Be 'Exact'
    }

    It 'traces transitions that chain' {
        $events = @(Trace-VirtRing -Name life -MaxEvents 50 -Timeout 30)
        $events.Count | Should -Be 50
        for ($i = 1; $i -lt $events.Count; $i++) { $events[$i].From | Should -Be $events[$i - 1].To -Because "event $i" }
        @($events | Group-Object Cause).Count | Should -BeGreaterThan 1
    }

    It 'counts instructions and transitions' {
        $measure = Measure-VirtRing -Name life
        ($measure.Instructions | Measure-Object -Sum).Sum | Should -BeGreaterThan 1000
        $measure.Transitions['Syscall'] | Should -BeGreaterThan 0
    }

    It 'says what the engine did' {
        $measure = Measure-VirtRing -Name life
        $measure.InstructionsPerSecond | Should -BeGreaterThan 0
        @($measure.RingInstructionsPerSecond).Count | Should -Be 4
        $measure.Engine.SlowPaths['PageWalk'] | Should -BeGreaterThan 0
        $measure.Engine.SlowPaths['Port'] | Should -BeGreaterThan 0
        $measure.Engine.JumpCacheHits | Should -BeNullOrEmpty
    }

    It 'draws its rings' { (Show-VirtRing life) -join "`n" | Should -Match 'VMM' }

    It 'shows registers, memory and code' {
        (Get-VirtRegister life -Register RIP).Value | Should -BeGreaterThan 0
        (Get-VirtGuestMemory life -Address 0x100000 -Length 64).Bytes.Count | Should -Be 64
        @(Get-VirtDisassembly life -Count 4).Count | Should -Be 4
    }

    It 'pauses and goes on' {
        Suspend-VirtVM life
        (Get-VirtVM life).State | Should -Be 'Paused'
        $one = (Measure-VirtRing life).Instructions
        $two = (Measure-VirtRing life).Instructions
        ($two -join ',') | Should -Be ($one -join ',')
        Resume-VirtVM life
        (Get-VirtVM life).State | Should -Be 'Running'
    }

    It 'takes what is typed' {
        Send-VirtConsole life 'x' -NoNewline
        Wait-VirtVM life -For Console -Pattern 'x' -Timeout 20
    }

    It 'cannot be removed while it runs' {
        { Remove-VirtVM life -Force -ErrorAction Stop } | Should -Throw -ErrorId 'InvalidVMState*'
        (Get-VirtVM life).State | Should -Be 'Running'
    }

    It 'stops and is gone after Remove-VirtVM' {
        Stop-VirtVM -Name life -TurnOff -Force
        (Get-VirtVM life).State | Should -Be 'Off'
        $path = (Get-VirtVM life).Path
        Remove-VirtVM -Name life -Force
        Test-Path -LiteralPath $path | Should -BeFalse
        @(Get-VirtVM).Count | Should -Be 0
    }
}

Describe 'Get-VirtHotSpot' {
    BeforeAll {
        # inc rax; jmp to it: ring 0, long mode, never halted.
        $binary = Join-Path $TestDrive 'loop.bin'
        [IO.File]::WriteAllBytes($binary, [byte[]] (0x48, 0xFF, 0xC0, 0xEB, 0xFB))
        $null = New-VirtVM -Name loop -FlatBinary $binary -EntryMode Long64 -LoadAddress 0x100000 -Memory 32MB -Strategy Full
        Start-VirtVM loop
        Start-Sleep -Milliseconds 300
    }

    AfterAll { Remove-All }

    It 'finds the loop' {
        $spots = @(Get-VirtHotSpot loop -Duration 0.3 -First 5)
        $spots[0].Address | Should -Be 0x100000
        $spots[0].Share | Should -BeGreaterThan 0.9
        $spots[0].Ring | Should -Be 0
        $spots[0].Cr3 | Should -BeNullOrEmpty
        $spots[0].Symbol | Should -BeNullOrEmpty
        $spots[0].HaltedSamples | Should -Be 0
        @($spots[0].Instructions).Count | Should -Be 2
        $spots[0].Instructions[0].Instruction | Should -Be 'inc rax'
        ($spots | Out-String -Width 140) | Should -Match '0x100000'
    }

    It 'knows symbols from a System.map, and says what is wrong with one' {
        $map = Join-Path $TestDrive 'System.map'
        Set-Content -LiteralPath $map -Value '00000000000ffff0 T before_it', '0000000000200000 T behind_it', '0000000000100000 D data'
        (Get-VirtHotSpot loop -Duration 0.2 -First 1 -SymbolFile $map).Symbol | Should -Be 'before_it+0x10'
        Set-Content -LiteralPath $map -Value 'not a map'
        { Get-VirtHotSpot loop -SymbolFile $map -ErrorAction Stop } | Should -Throw -ErrorId 'SymbolFileInvalid*'
        { Get-VirtHotSpot loop -SymbolFile "$map.none" -ErrorAction Stop } | Should -Throw -ErrorId 'SymbolFileInvalid*'
    }

    It 'counts what it translated' {
        $engine = (Measure-VirtRing loop).Engine
        if ($engine.CodeCacheSize) { $engine.TranslatedBlocks | Should -BeGreaterThan 0; $engine.CodeEntries | Should -BeGreaterThan 0 }
        else { $engine.TranslatedBlocks | Should -BeNullOrEmpty }
    }

    It 'needs a running VM' {
        Suspend-VirtVM loop
        { Get-VirtHotSpot loop -Duration 0.1 -ErrorAction Stop } | Should -Throw -ErrorId 'InvalidVMState*'
    }
}

Describe 'Start-VirtVM in a script' {
    It 'does not hang on the worker that lives on' {
        $null = New-VirtVM -Name pipe -Memory 32MB -Strategy Full
        $watch = [Diagnostics.Stopwatch]::StartNew()
        $x = Start-VirtVM -Name pipe -PassThru
        $watch.Elapsed.TotalSeconds | Should -BeLessThan 20
        $x.State | Should -Be 'Running'
        Remove-All
    }
}

Describe 'A worker that dies' {
    It 'leaves the VM Crashed with a reason, and restartable' {
        $null = New-VirtVM -Name victim -Memory 32MB -Strategy Full
        Start-VirtVM victim
        Stop-Process -Id (Get-VirtVM victim).WorkerProcessId -Force
        Start-Sleep -Milliseconds 500
        $vm = Get-VirtVM victim
        $vm.State | Should -Be 'Crashed'
        $vm.StatusReason | Should -Not -BeNullOrEmpty
        Start-VirtVM victim
        (Get-VirtVM victim).State | Should -Be 'Running'
        Remove-All
    }
}
