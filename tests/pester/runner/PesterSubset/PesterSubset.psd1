@{
    RootModule        = 'PesterSubset.psm1'
    ModuleVersion     = '0.1.0'
    GUID              = '6f0f6c1e-9b1f-4c0e-8d55-1b8c0a6d7e21'
    Author            = 'VirtPS contributors'
    Description       = 'Runs test files written for Pester 5 where Pester itself is not installed: the subset of its language that this project uses.'
    PowerShellVersion = '7.4'
    FunctionsToExport = @('Invoke-Pester', 'New-PesterConfiguration', 'Describe', 'Context', 'It', 'BeforeAll', 'AfterAll', 'BeforeEach',
        'AfterEach', 'BeforeDiscovery', 'Should', 'Set-ItResult')
    CmdletsToExport   = @()
    VariablesToExport = @()
    AliasesToExport   = @()
}
