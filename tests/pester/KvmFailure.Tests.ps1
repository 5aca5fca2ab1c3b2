# What a user sees when KVM fails under a VM: that VM is Crashed and says why and where; its worker ends in order, the shell answers, the other VMs run on, and it can be started again.
BeforeDiscovery {
    $script:why = if (-not (Test-Path (Join-Path $PSScriptRoot '../hardware/FaultyKvm/bin/Release/net10.0/plugin.json'))) { 'needs tests/hardware/FaultyKvm, built' }
        elseif (-not (Test-Path /dev/kvm)) { 'needs a /dev/kvm' }
}

Describe 'A VM under which KVM fails' -Skip:([bool] $why) {
    BeforeAll {
        Import-Module VirtPS
        $script:oldHome = $env:VIRTPS_HOME
        $env:VIRTPS_HOME = Join-Path $TestDrive 'store'
        $null = Register-VirtPlugin -Path (Join-Path $PSScriptRoot '../hardware/FaultyKvm/bin/Release/net10.0') -Confirm:$false
        # Real mode at 0x7C00: mov ax, 0x1234; again: out 0x80, al; jmp again
        $script:loop = Join-Path $TestDrive 'loop.bin'
        [IO.File]::WriteAllBytes($loop, [byte[]] (0xB8, 0x34, 0x12, 0xE6, 0x80, 0xEB, 0xFC))
        # 64-bit: lidt [rip+4], which is zero; ud2; jmp $
        $script:triple = Join-Path $TestDrive 'triple.bin'
        [IO.File]::WriteAllBytes($triple, [byte[]] (@(0x0F, 0x01, 0x1D, 4, 0, 0, 0, 0x0F, 0x0B, 0xEB, 0xFE) + @(0) * 13))

        function New-Guest([string] $Name, [string] $Fault, [string] $Binary = $loop, [string] $EntryMode = 'Real16') {
            New-VirtVM -Name $Name -Memory 16MB -FlatBinary $Binary -EntryMode $EntryMode -Strategy FaultyKvm -StrategyOption @{ fault = $Fault }
        }

        # A worker that ends takes a moment.
        function Wait-Ended([string] $Name) {
            for ($i = 0; $i -lt 200 -and (Get-VirtVM $Name).WorkerProcessId; $i++) { Start-Sleep -Milliseconds 50 }
            Get-VirtVM $Name
        }

        $null = New-Guest bystander none
        Start-VirtVM bystander
        $script:bystander = (Get-VirtVM bystander).WorkerProcessId
    }

    AfterAll {
        Get-VirtVM -ErrorAction Ignore | ForEach-Object {
            if ($_.WorkerProcessId) { Stop-VirtVM -Id $_.Id -TurnOff -Force }
            Remove-VirtVM -Id $_.Id -Force
        }
        $env:VIRTPS_HOME = $script:oldHome
    }

    It 'is Crashed with reason, registers and code: <Fault>' -ForEach @(
        @{ Fault = 'internal'; Reason = 'KVM internal error 3 \(event delivery failed\)' }
        @{ Fault = 'entry'; Reason = 'KVM could not enter the guest: hardware reason 0x80000021' }
        @{ Fault = 'unknown'; Reason = 'KVM exit 999, which nobody here knows' }
        @{ Fault = 'gone'; Reason = 'KVM_RUN failed: No such device' }
        @{ Fault = 'refused'; Reason = 'KVM_RUN failed: Operation not permitted' }
    ) {
        $null = New-Guest $Fault $Fault
        foreach ($start in 1, 2) {
            # Before or after the command has returned.
            Start-VirtVM $Fault -ErrorAction SilentlyContinue
            $vm = Wait-Ended $Fault
            $vm.State | Should -Be 'Crashed' -Because "start $start"
            $vm.StatusReason | Should -Match "^$Reason"
            $vm.StatusReason | Should -Match 'RIP 0x7C0[35], .*RAX 0x1234, .*CR0 0x'
            $vm.StatusReason | Should -Match 'code (E680EBFC|EBFC)'
            $vm.WorkerProcessId | Should -BeNullOrEmpty
        }
    }

    It 'is Crashed at a triple fault' {
        $null = New-Guest triple none $triple Long64
        Start-VirtVM triple -ErrorAction SilentlyContinue
        $vm = Wait-Ended triple
        $vm.State | Should -Be 'Crashed'
        $vm.StatusReason | Should -Match '^Triple fault on vCPU 0 at '
        $vm.StatusReason | Should -Match 'code '
    }

    It 'is not started when the device has no KVM behind it' {
        $null = New-Guest device device
        $found = $null
        Start-VirtVM device -ErrorAction SilentlyContinue -ErrorVariable found
        $found[0].FullyQualifiedErrorId | Should -Match '^StrategyUnavailable'
        $found[0].Exception.Message | Should -Match '/dev/null does not answer as KVM'
        (Wait-Ended device).State | Should -Be 'Off'
    }

    It 'leaves the others alone' {
        $vm = Get-VirtVM bystander
        $vm.State | Should -Be 'Running'
        $vm.WorkerProcessId | Should -Be $bystander
        (Get-VirtRingState bystander).Mode | Should -Be 'Real'
    }
}
