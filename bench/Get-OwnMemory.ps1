# The worker's own anonymous memory in MiB: without what is marked as the guest's by not being inherited by child processes ("dc" in VmFlags, proc(5)).
function Get-OwnMemory([int] $ProcessId) {
    $own = 0
    foreach ($mapping in [IO.File]::ReadAllText("/proc/$ProcessId/smaps") -split '(?m)^(?=[0-9a-f]+-[0-9a-f]+ )') {
        if ($mapping -match '(?m)^Anonymous:\s+(\d+) kB') {
            $size = [int] $Matches[1]
            if ($mapping -notmatch '(?m)^VmFlags:.*\bdc\b') { $own += $size }
        }
    }

    $own / 1024
}
