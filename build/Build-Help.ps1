<#
.SYNOPSIS
    Makes src/VirtPS/Help/VirtPS.dll-Help.xml from VirtPS.help.md and the cmdlets' own metadata.
.DESCRIPTION
    Run it in virtps or pwsh after a change of help or parameters; a test fails when the file is out of date.
.PARAMETER Check
    Write nothing; emit what is missing or out of date.
#>
param([switch] $Check)

$ErrorActionPreference = 'Stop'
Import-Module VirtPS
. (Join-Path $PSScriptRoot 'HelpSource.ps1')
$folder = Join-Path (Split-Path -Parent $PSScriptRoot) 'src/VirtPS/Help'
$pages = Read-HelpSource (Join-Path $folder 'VirtPS.help.md')
$common = @{
    Name = "Names of virtual machines; wildcards are allowed and case does not count."; Id = 'Ids of virtual machines.'
    InputObject = 'Virtual machines, as Get-VirtVM emits them.'; PassThru = 'Emit the virtual machine as it is afterwards.'
    WhatIf = 'Show what would happen; change nothing.'; Confirm = 'Ask before each change.'
}
$engine = [Management.Automation.PSCmdlet]::CommonParameters

function Escape([string] $Text) { [Security.SecurityElement]::Escape($Text) }

function Get-Description($Page, [string] $Name) {
    if ($Page.Parameters.ContainsKey($Name)) { $Page.Parameters[$Name] } elseif ($common.ContainsKey($Name)) { $common[$Name] }
    else { throw "$($Page.Name): the parameter -$Name has no description in VirtPS.help.md." }
}

function Format-Parameter($Parameter, $Set, $Page, [switch] $WithText) {
    $pipeline = @(if ($Set.ValueFromPipeline) { 'ByValue' }; if ($Set.ValueFromPipelineByPropertyName) { 'ByPropertyName' })
    $pipelineText = if ($pipeline) { "True ($($pipeline -join ', '))" } else { 'False' }
    $position = if ($Set.Position -ge 0) { $Set.Position } else { 'named' }
    $globbing = [bool] ($Parameter.Attributes | Where-Object { $_ -is [Management.Automation.SupportsWildcardsAttribute] })
    $type = $Parameter.ParameterType
    if ([Nullable]::GetUnderlyingType($type)) { $type = [Nullable]::GetUnderlyingType($type) }
    $aliases = if ($Parameter.Aliases) { $Parameter.Aliases -join ', ' } else { 'none' }
    $value = if ($type -eq [Management.Automation.SwitchParameter]) { '' } else { "<command:parameterValue required=`"true`" variableLength=`"$($type.IsArray.ToString().ToLower())`">$(Escape $type.Name)</command:parameterValue>" }
    $text = "<maml:description><maml:para>$(Escape (Get-Description $Page $Parameter.Name))</maml:para></maml:description>"
    $typeText = if ($WithText) { "<dev:type><maml:name>$(Escape $type.Name)</maml:name></dev:type>" } else { '' }
    "<command:parameter required=`"$($Set.IsMandatory.ToString().ToLower())`" variableLength=`"false`" globbing=`"$($globbing.ToString().ToLower())`" pipelineInput=`"$pipelineText`" position=`"$position`" aliases=`"$aliases`"><maml:name>$($Parameter.Name)</maml:name>$text$value$typeText</command:parameter>"
}

function Format-Page($Page) {
    $command = Get-Command $Page.Name
    $unknown = $Page.Parameters.Keys | Where-Object { -not $command.Parameters.ContainsKey($_) }
    if ($unknown) { throw "$($Page.Name): VirtPS.help.md describes parameters that do not exist: $($unknown -join ', ')." }
    if (-not $Page.Examples) { throw "$($Page.Name): VirtPS.help.md has no example." }
    $verb, $noun = $Page.Name -split '-'
    $paragraphs = { param($texts) ($texts | ForEach-Object { "<maml:para>$(Escape $_)</maml:para>" }) -join '' }
    $description = if ($Page.Description) { $Page.Description } else { @($Page.Synopsis) }
    '  <command:command xmlns:maml="http://schemas.microsoft.com/maml/2004/10" xmlns:command="http://schemas.microsoft.com/maml/dev/command/2004/10" xmlns:dev="http://schemas.microsoft.com/maml/dev/2004/10">'
    "    <command:details><command:name>$($Page.Name)</command:name><command:verb>$verb</command:verb><command:noun>$noun</command:noun><maml:description><maml:para>$(Escape $Page.Synopsis)</maml:para></maml:description></command:details>"
    "    <maml:description>$(& $paragraphs $description)</maml:description>"
    '    <command:syntax>'
    foreach ($set in $command.ParameterSets | Sort-Object Name) {
        '      <command:syntaxItem>'
        "        <maml:name>$($Page.Name)</maml:name>"
        foreach ($p in $set.Parameters | Where-Object { $_.Name -notin $engine } | Sort-Object { if ($_.Position -ge 0) { $_.Position } else { 1000 } }, { -not $_.IsMandatory }, Name) {
            '        ' + (Format-Parameter $command.Parameters[$p.Name] $p $Page)
        }
        '      </command:syntaxItem>'
    }
    '    </command:syntax>'
    '    <command:parameters>'
    foreach ($p in $command.Parameters.Values | Where-Object { $_.Name -notin $engine } | Sort-Object Name) {
        $sets = @($command.ParameterSets | ForEach-Object { $_.Parameters } | Where-Object Name -eq $p.Name)
        '      ' + (Format-Parameter $p $sets[0] $Page -WithText)
    }
    '    </command:parameters>'
    '    <command:returnValues>'
    foreach ($type in $command.OutputType) { "      <command:returnValue><dev:type><maml:name>$(Escape $type.Name)</maml:name></dev:type></command:returnValue>" }
    '    </command:returnValues>'
    '    <command:examples>'
    $number = 0
    foreach ($example in $Page.Examples) {
        $number++
        "      <command:example><maml:title>-------------------------- Example ${number}: $(Escape $example.Title) --------------------------</maml:title><dev:code>$(Escape $example.Code)</dev:code><dev:remarks><maml:para>$(Escape $example.Remarks)</maml:para></dev:remarks></command:example>"
    }
    '    </command:examples>'
    '  </command:command>'
}

$missing = @((Get-Command -Module VirtPS).Name | Where-Object { $_ -notin $pages.Name })
if ($missing) { throw "VirtPS.help.md has no page for $($missing -join ', ')." }
$lines = @('<?xml version="1.0" encoding="utf-8"?>', '<helpItems schema="maml" xmlns="http://msh">') + @($pages | ForEach-Object { Format-Page $_ }) + '</helpItems>'
$text = ($lines -join "`n") + "`n"
$target = Join-Path $folder 'VirtPS.dll-Help.xml'
if ($Check) {
    if ([IO.File]::ReadAllText($target) -ne $text) { 'VirtPS.dll-Help.xml is out of date: run build/Build-Help.ps1.' }
}
else {
    [IO.File]::WriteAllText($target, $text)
    Write-Host "Written: $target, $($pages.Count) pages."
}
