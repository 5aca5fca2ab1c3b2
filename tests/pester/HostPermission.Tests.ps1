# Test-VirtHost as a user without, and with, the right to open /dev/kvm: said with the reason, the group and what to do.
BeforeDiscovery {
    $tools = 'setpriv', 'unshare', 'mknod', 'mount' | Where-Object { -not (Get-Command $_ -ErrorAction Ignore) }
    $script:why = if ($env:USER -and $env:USER -ne 'root' -or [Environment]::UserName -ne 'root') { 'needs root, to become someone else' }
        elseif ($tools) { "needs $($tools -join ', ')" }
        elseif (-not (Test-Path /dev/kvm)) { 'needs a /dev/kvm' }
        else {
            # What the other user shall run must be readable for it, and a device of our own mountable.
            & setpriv --reuid=65534 --regid=65534 --clear-groups test -x ([Environment]::ProcessPath) 2>&1 | Out-Null
            if ($LASTEXITCODE -ne 0) { 'the build folder is closed to other users' }
            else {
                & unshare --mount true 2>&1 | Out-Null
                if ($LASTEXITCODE -ne 0) { 'needs a mount namespace' }
            }
        }
}

Describe 'Test-VirtHost and the permission on /dev/kvm' -Skip:([bool] $why) {
    BeforeAll {
        $script:folder = "/tmp/virtps-permission-$PID"
        $null = New-Item -ItemType Directory -Path "$folder/home"
        & chown -R 65534:65534 "$folder/home"
        & mknod "$folder/kvm" c 10 232

        # In a mount namespace of its own, /dev/kvm is a node with this owner and mode; the command runs as nobody with these groups.
        function Invoke-AsNobody([string] $Owner, [string] $Mode, [string] $Groups, [string] $Command) {
            & chown $Owner "$folder/kvm"
            & chmod $Mode "$folder/kvm"
            $as = if ($Groups) { "--groups=$Groups" } else { '--clear-groups' }
            & unshare --mount sh -c 'mount --bind "$1" /dev/kvm && shift && exec "$@"' sh "$folder/kvm" env "VIRTPS_HOME=$folder/home" "HOME=$folder/home" setpriv --reuid=65534 --regid=65534 $as ([Environment]::ProcessPath) -NoProfile -Command $Command
        }

        $script:ask = 'Test-VirtHost | Where-Object Name -eq "Strategy Hardware" | ConvertTo-Json -Compress'
    }

    AfterAll { Remove-Item -LiteralPath $folder -Recurse -Force }

    It 'names the group that opens it, and how to join' {
        $test = Invoke-AsNobody root:games 660 '' $ask | ConvertFrom-Json
        $test.Detail | Should -Match 'No permission to open /dev/kvm for user ''nobody'': it belongs to root, group games, mode 660'
        $test.RecommendedAction | Should -Match 'usermod -aG games nobody'
    }

    It 'says so when no group opens it' {
        $test = Invoke-AsNobody root:root 600 '' $ask | ConvertFrom-Json
        $test.Detail | Should -Match 'group root, mode 600, so no group opens it'
        $test.RecommendedAction | Should -Match 'chown root:kvm /dev/kvm'
    }

    It 'has no complaint about permission in that group' {
        $test = Invoke-AsNobody root:games 660 60 $ask | ConvertFrom-Json
        "$($test.Detail) $($test.RecommendedAction)" | Should -Not -Match 'permission|usermod'
    }

    It 'a VM of that strategy is refused with the same reason, and one without takes another strategy' {
        $result = Invoke-AsNobody root:games 660 '' '$vm = New-VirtVM -Name own -Memory 16MB; $vm.Strategy; New-VirtVM -Name hard -Memory 16MB -Strategy Hardware | Start-VirtVM -ErrorAction SilentlyContinue -ErrorVariable e; $e[0].FullyQualifiedErrorId; $e[0].Exception.Message; (Get-VirtVM hard).State'
        $result[0] | Should -Be 'Full'
        $result[1] | Should -Match '^StrategyUnavailable'
        $result[2] | Should -Match 'group games, mode 660'
        $result[3] | Should -Be 'Off'
    }
}
