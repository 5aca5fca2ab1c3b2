# Bad input: one clear error each, nothing left behind.
BeforeAll {
    Import-Module VirtPS
    $script:oldHome = $env:VIRTPS_HOME
    $env:VIRTPS_HOME = Join-Path $TestDrive 'store'
    $script:truncated = Join-Path $TestDrive 'truncated'
    [IO.File]::WriteAllBytes($truncated, [byte[]] (1..600 | ForEach-Object { 0 }))

    function Get-OneError([scriptblock] $Script) {
        $found = @()
        & $Script -ErrorAction SilentlyContinue 2>&1 | ForEach-Object { if ($_ -is [Management.Automation.ErrorRecord]) { $found += $_ } }
        $found
    }
}

AfterAll {
    Get-VirtVM -ErrorAction Ignore | ForEach-Object {
        if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
        Remove-VirtVM -Id $_.Id -Force
    }
    $env:VIRTPS_HOME = $script:oldHome
}

Describe 'New-VirtVM refuses' {
    It '<What>' -ForEach @(
        @{ What = 'no memory'; Arguments = @{ Name = 'bad'; Memory = 0 }; Id = 'MemoryInvalid' }
        @{ What = 'one byte of memory'; Arguments = @{ Name = 'bad'; Memory = 1 }; Id = 'MemoryInvalid' }
        @{ What = 'more memory than the host has'; Arguments = @{ Name = 'bad'; Memory = 64TB }; Id = 'MemoryInvalid' }
        @{ What = 'a path separator in the name'; Arguments = @{ Name = 'a/b' }; Id = 'VMNameInvalid' }
        @{ What = 'a name of 300 characters'; Arguments = @{ Name = 'a' * 300 }; Id = 'VMNameInvalid' }
        @{ What = 'an empty name'; Arguments = @{ Name = ' ' }; Id = 'VMNameInvalid' }
        @{ What = 'an unknown strategy'; Arguments = @{ Name = 'bad'; Strategy = 'Fast' }; Id = 'StrategyNotFound' }
        @{ What = 'an unknown device'; Arguments = @{ Name = 'bad'; Device = @{ Model = 'virtps.toaster/t1' } }; Id = 'DeviceModelNotFound' }
        @{ What = 'an unknown device property'; Arguments = @{ Name = 'bad'; Device = @{ Model = 'virtps.serial/16550a'; Colour = 'red' } }; Id = 'DevicePropertyInvalid' }
        @{ What = 'no processor'; Arguments = @{ Name = 'bad'; ProcessorCount = 0 }; Id = 'ConfigurationInvalid' }
        @{ What = 'a kernel that does not exist'; Arguments = @{ Name = 'bad'; Kernel = './no-such-kernel' }; Id = 'ImageNotFound' }
    ) {
        $found = $null
        if (-not $Arguments.ContainsKey('Strategy')) { $Arguments.Strategy = 'Full' }
        New-VirtVM @Arguments -ErrorVariable found -ErrorAction SilentlyContinue | Should -BeNullOrEmpty
        @($found).Count | Should -Be 1
        $found[0].FullyQualifiedErrorId | Should -BeLike "$Id,*"
        @(Get-VirtVM).Count | Should -Be 0
    }

    It 'a name that is taken' {
        $null = New-VirtVM -Name taken -Memory 32MB -Strategy Full
        { New-VirtVM -Name TAKEN -Memory 32MB -Strategy Full -ErrorAction Stop } | Should -Throw -ErrorId 'VMNameInUse*'
        Remove-VirtVM taken -Force
    }

    It 'and lists what there is' {
        { New-VirtVM -Name bad -Strategy Fast -ErrorAction Stop } | Should -Throw -ExpectedMessage '*Full*'
    }
}

Describe 'Start-VirtVM refuses' {
    It 'a file that is no kernel, and leaves nothing running' {
        $null = New-VirtVM -Name nokernel -Kernel $truncated -Memory 32MB -Strategy Full
        { Start-VirtVM nokernel -ErrorAction Stop } | Should -Throw -ErrorId 'ImageInvalid*'
        $vm = Get-VirtVM nokernel
        $vm.WorkerProcessId | Should -BeNullOrEmpty
        $vm.State | Should -BeIn 'Off', 'Crashed'
        Remove-VirtVM nokernel -Force
    }
}

Describe 'A VM that is not there' {
    It 'is one error, and the others are still done' {
        $null = New-VirtVM -Name there -Memory 32MB -Strategy Full
        $found = $null
        $vms = @(Get-VirtVM there, missing -ErrorVariable found -ErrorAction SilentlyContinue)
        $vms.Name | Should -Be 'there'
        @($found).Count | Should -Be 1
        $found[0].FullyQualifiedErrorId | Should -BeLike 'VMNotFound,*'
        $found[0].CategoryInfo.Category | Should -Be 'ObjectNotFound'
        Remove-VirtVM there -Force
    }

    It 'is no error with a wildcard' {
        $found = $null
        Get-VirtVM 'nothing*' -ErrorVariable found -ErrorAction SilentlyContinue | Should -BeNullOrEmpty
        @($found).Count | Should -Be 0
    }
}

Describe 'Guests that misbehave' {
    BeforeAll {
        function New-BootSector([string] $Name, [byte[]] $Code) {
            $sector = [byte[]]::new(512)
            [Array]::Copy($Code, $sector, $Code.Length)
            $sector[510] = 0x55; $sector[511] = 0xAA
            $path = Join-Path $TestDrive $Name
            [IO.File]::WriteAllBytes($path, $sector)
            $path
        }
    }

    It 'a guest that spins with interrupts off is stopped by -TurnOff, not by the power button' {
        # cli; jmp $
        $null = New-VirtVM -Name spin -BootSector (New-BootSector spin 0xFA, 0xEB, 0xFE) -Memory 16MB -Strategy Full
        Start-VirtVM spin
        { Stop-VirtVM spin -Timeout 1 -ErrorAction Stop } | Should -Throw -ErrorId 'GuestDidNotStop*'
        (Get-VirtVM spin).State | Should -Be 'Running'
        # It never comes back to the monitor by itself, and still its use of the processor is seen.
        Start-Sleep -Milliseconds 2500
        (Get-VirtVM spin).CPUUsage | Should -BeGreaterThan 50
        Stop-VirtVM spin -TurnOff -Force
        (Get-VirtVM spin).State | Should -Be 'Off'
        Remove-VirtVM spin -Force
    }

    It 'a guest that triple-faults ends with the reason' {
        # cli; lidt [zero limit at 0x7DE0]; int3 in protected mode: lgdt is not needed for a fault during delivery
        $code = 0xFA, 0x0F, 0x01, 0x1E, 0xE0, 0x7D, 0x0F, 0x20, 0xC0, 0x0C, 0x01, 0x0F, 0x22, 0xC0, 0xCC
        $null = New-VirtVM -Name triple -BootSector (New-BootSector triple $code) -Memory 16MB -Strategy Full
        Start-VirtVM triple
        Wait-VirtVM triple -For Off -Timeout 20 -ErrorAction SilentlyContinue
        $vm = Get-VirtVM triple
        $vm.WorkerProcessId | Should -BeNullOrEmpty
        $vm.StatusReason | Should -Match 'triple'
        Remove-VirtVM triple -Force
    }

    It 'a guest that floods the console does not fill the disk or stop answering' {
        # mov dx,3F8h; l: mov al,'A'; out dx,al; jmp l
        $null = New-VirtVM -Name flood -BootSector (New-BootSector flood 0xBA, 0xF8, 0x03, 0xB0, 0x41, 0xEE, 0xEB, 0xFB) -Memory 16MB -Strategy Full
        Start-VirtVM flood
        Start-Sleep -Seconds 2
        $vm = Get-VirtVM flood
        $vm.State | Should -Be 'Running'
        (Get-ChildItem -Path $vm.Path -Recurse -File | Measure-Object Length -Sum).Sum | Should -BeLessThan 200MB
        Stop-VirtVM flood -TurnOff -Force
        Remove-VirtVM flood -Force
    }
}
