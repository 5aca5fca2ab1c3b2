@{
    RootModule             = 'VirtPS.dll'
    ModuleVersion          = '0.1.0'
    GUID                   = 'b1f0a7f2-5d0c-4b8e-9d0e-0d6f3a6f7c11'
    Author                 = 'VirtPS contributors'
    CompanyName            = 'VirtPS'
    Copyright              = '(c) 2026 VirtPS contributors. MIT license.'
    Description            = 'Virtual machines from PowerShell, with an x86-64 virtual machine monitor of its own: full, para and hardware-assisted virtualization, and the protection rings as objects in the pipeline.'
    PowerShellVersion      = '7.6'
    CompatiblePSEditions   = @('Core')
    FormatsToProcess       = @('VirtPS.format.ps1xml')
    FunctionsToExport      = @()
    VariablesToExport      = @()
    AliasesToExport        = @()
    CmdletsToExport        = @(
        'New-VirtVM', 'Get-VirtVM', 'Start-VirtVM', 'Stop-VirtVM', 'Restart-VirtVM', 'Suspend-VirtVM', 'Resume-VirtVM', 'Wait-VirtVM',
        'Set-VirtVM', 'Rename-VirtVM', 'Remove-VirtVM',
        'Add-VirtVMDevice', 'Get-VirtVMDevice', 'Remove-VirtVMDevice',
        'Add-VirtVMDisk', 'Get-VirtVMDisk', 'Set-VirtVMDisk', 'Remove-VirtVMDisk',
        'Get-VirtRingState', 'Trace-VirtRing', 'Measure-VirtRing', 'Show-VirtRing', 'Get-VirtHotSpot', 'Get-VirtRegister', 'Get-VirtGuestMemory', 'Get-VirtDisassembly',
        'Compare-VirtStrategy',
        'Receive-VirtConsole', 'Send-VirtConsole', 'Connect-VirtConsole',
        'Get-VirtImage', 'Save-VirtImage', 'New-VirtInitrd',
        'New-VirtDisk', 'Get-VirtDisk', 'Resize-VirtDisk',
        'Get-VirtPlugin', 'Register-VirtPlugin', 'Unregister-VirtPlugin', 'Get-VirtStrategy', 'Get-VirtDeviceModel',
        'Get-VirtHost', 'Test-VirtHost'
    )
    PrivateData            = @{
        PSData = @{
            Tags       = @('virtualization', 'hypervisor', 'kvm', 'x86-64', 'emulation')
            LicenseUri = 'https://opensource.org/license/mit'
        }
    }
}
