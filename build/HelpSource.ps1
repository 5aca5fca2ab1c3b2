# Reads VirtPS.help.md: "# Command", a synopsis line, description paragraphs, "-Parameter: text" lines, "setup: script" (run before the examples by
# the test, not shown), and "Example: title" with an optional "norun: reason", "PS> code" and remarks.

function Read-HelpSource([string] $Path) {
    $page = $null
    $example = $null
    foreach ($line in [IO.File]::ReadAllLines($Path)) {
        if ($line -match '^# (\S+)$') {
            if ($page) { $page }
            $page = [pscustomobject]@{ Name = $Matches[1]; Synopsis = ''; Description = @(); Parameters = @{}; Setup = ''; Examples = @() }
            $example = $null
        }
        elseif ($line -match '^-(\w+): (.+)$') { $page.Parameters[$Matches[1]] = $Matches[2] }
        elseif ($line -match '^setup: (.+)$') { $page.Setup = $Matches[1] }
        elseif ($line -match '^Example: (.+)$') {
            $example = [pscustomobject]@{ Title = $Matches[1]; Code = ''; Remarks = ''; NoRun = '' }
            $page.Examples += $example
        }
        elseif ($example -and $line -match '^norun: (.+)$') { $example.NoRun = $Matches[1] }
        elseif ($example -and $line -match '^PS> (.+)$') { $example.Code = $Matches[1] }
        elseif ($line -eq '') { }
        elseif ($example) { $example.Remarks = "$($example.Remarks) $line".Trim() }
        elseif ($page.Synopsis -eq '') { $page.Synopsis = $line }
        else { $page.Description += $line }
    }
    if ($page) { $page }
}
