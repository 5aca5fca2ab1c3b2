# A stock Debian kernel with a disk of its own, as a user has it: what it writes is there again, also after its worker was killed in mid-write.
# Needs the images that Save-VirtImage fetches, and mke2fs and e2fsck (e2fsprogs) on the host.
$why = ''
foreach ($program in 'mke2fs', 'e2fsck') {
    if (-not (Get-Command $program -CommandType Application -ErrorAction Ignore)) { $why = "This host has no $program." }
}
if (-not $why) {
    Import-Module VirtPS
    try {
        $kernel, $busybox, $module = 'debian-cloud-kernel', 'busybox', 'debian-xen-blkfront' | ForEach-Object { Save-VirtImage $_ -PassThru -ErrorAction Stop }
        # A module belongs to one version of the kernel; a cache may be of two days.
        if ($kernel.Version -ne $module.Version) { $kernel, $module = 'debian-cloud-kernel', 'debian-xen-blkfront' | ForEach-Object { Save-VirtImage $_ -Force -PassThru -ErrorAction Stop } }
    }
    catch { $why = "The images cannot be had: $($_.Exception.Message)" }
}
if ($why) { Write-Host "Skipped: $why" }
$images = @{ Kernel = $kernel.Path; Busybox = $busybox.Path; Module = $module.Path }

Describe 'An ext4 file system on xvda' -Skip:([bool] $why) -ForEach $images {
    BeforeAll {
        Import-Module VirtPS
        $script:oldHome = $env:VIRTPS_HOME
        $env:VIRTPS_HOME = Join-Path $TestDrive 'store'
        $script:disk = Join-Path $TestDrive 'data.img'
        $initrd = Join-Path $TestDrive 'initrd'
        New-VirtInitrd $initrd -Busybox $Busybox -Module $Module
        $null = New-VirtDisk $disk -Size 192MB
        & mke2fs -q -t ext4 -F $disk
        $null = New-VirtVM xen -Strategy Para -Kernel $Kernel -Initrd $initrd -Memory 192MB -Disk $disk -CommandLine 'console=hvc0 panic=-1'
        $script:number = 0

        function Start-Guest {
            Start-VirtVM xen
            Wait-VirtVM xen -For Console -Pattern 'GUEST-READY' -Timeout 120
            Invoke-Guest 'mkdir -p /m && mount /dev/xvda /m'
        }

        # What a command says; it must succeed.
        function Invoke-Guest([string] $Command) {
            $script:number++
            # The marks are put together by the guest's shell, so that the echo of what is typed does not match.
            Send-VirtConsole xen "echo `"BEGIN`"-$number; $Command; echo `"END`"-$number-`$?`n"
            Wait-VirtVM xen -For Console -Pattern "END-$number-\d+" -Timeout 120
            $lines = @(Receive-VirtConsole xen)
            $end = $lines.Count - 1
            while ($end -gt 0 -and $lines[$end] -notmatch "END-$number-(\d+)") { $end-- }
            if ($Matches[1] -ne '0') { throw "'$Command' ended with $($Matches[1]): $($lines[-12..-1] -join "`n")" }
            $begin = $end
            while ($begin -gt 0 -and $lines[$begin] -notmatch "^BEGIN-$number") { $begin-- }
            $lines[($begin + 1)..($end - 1)]
        }

        function Get-GuestHash([string] $File) { ((Invoke-Guest "md5sum $File") -join ' ' | Select-String '[0-9a-f]{32}').Matches[0].Value }
    }

    AfterAll {
        if ((Get-VirtVM xen).WorkerProcessId) { Stop-VirtVM xen -TurnOff -Force }
        Remove-VirtVM xen -Force
        $env:VIRTPS_HOME = $script:oldHome
    }

    It 'keeps 64 MiB over a power-off' {
        Start-Guest
        $null = Invoke-Guest 'dd if=/dev/urandom of=/m/data bs=1M count=64 2>/dev/null && sync'
        $script:hash = Get-GuestHash /m/data
        # Asked politely, the guest unmounts and switches itself off.
        Stop-VirtVM xen
        (Get-VirtVM xen).State | Should -Be 'Off'
        & e2fsck -fn $disk 2>&1 | Out-Null
        $LASTEXITCODE | Should -Be 0
        Start-Guest
        Get-GuestHash /m/data | Should -Be $hash
    }

    It 'is consistent after its worker was killed in mid-write' {
        Send-VirtConsole xen "i=0; while :; do i=`$((i+1)); dd if=/dev/urandom of=/m/f`$((i%7)) bs=64k count=24 2>/dev/null; mkdir -p /m/d`$i; mv /m/f`$((i%7)) /m/d`$i/; sync; [ `$i -gt 4 ] && rm -r /m/d`$((i-4)); echo ROUND-`$i; done`n"
        Wait-VirtVM xen -For Console -Pattern 'ROUND-5' -Timeout 60
        $worker = (Get-VirtVM xen).WorkerProcessId
        Stop-Process -Id $worker -Force
        for ($i = 0; $i -lt 100 -and (Get-VirtVM xen).State -ne 'Crashed'; $i++) { Start-Sleep -Milliseconds 50 }
        (Get-VirtVM xen).State | Should -Be 'Crashed'
        # The disk is nobody's any more, and its journal has something to say.
        (Get-VirtDisk $disk).InUse | Should -Be $false
        Start-Guest
        (Invoke-Guest 'dmesg | grep -i "xvda.*recover"') -join ' ' | Should -Match 'recovery complete'
        Get-GuestHash /m/data | Should -Be $hash
        Stop-VirtVM xen
        & e2fsck -fn $disk 2>&1 | Out-Null
        $LASTEXITCODE | Should -Be 0
    }
}
