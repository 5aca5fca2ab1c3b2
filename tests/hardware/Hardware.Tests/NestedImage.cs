using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using VirtPS.Client.Images;

namespace VirtPS.Hardware.Tests;

/// <summary>
/// A small Linux with a real KVM and our programs in it, for an emulated host with AMD SVM: Debian's cloud kernel with its own KVM modules, a busybox, this process's .NET
/// runtime, the nested runner with the plugins, and the same kernel again as its guest.
/// </summary>
internal sealed class NestedImage
{
    /// <summary>What the shell does there.</summary>
    private const string Compare = """
        $ErrorActionPreference = 'Stop'
        $ProgressPreference = 'SilentlyContinue'
        Import-Module /artifacts/module/VirtPS
        $options = @{ Kernel = '/guest/vmlinuz'; Initrd = '/guest/initrd'; CommandLine = 'console=ttyS0 console=hvc0 quiet nokaslr mitigations=off panic=-1'; Memory = 256MB; Timeout = 400 }
        Get-VirtStrategy | Format-Table Name, IsSupported, Reason -AutoSize -Wrap | Out-String -Width 160
        foreach ($guest in 'ringlab', 'Debian') {
            $result = if ($guest -eq 'Debian') { Compare-VirtStrategy @options } else { Compare-VirtStrategy -Timeout 200 }
            "NESTED-TABLE $guest"
            $result | Out-String -Width 160
            $result | Format-List Strategy, Exits, Transitions, StatusReason | Out-String -Width 160
        }
        'NESTED-END'
        """;

    private static readonly string[] s_modules = ["irqbypass.ko", "kvm.ko", "kvm-amd.ko"];

    /// <summary>For debuggers and the like. Assemblies all stay: the plugin loader asks for every one that is listed.</summary>
    private static readonly string[] s_notNeeded = ["libmscordbi", "libmscordaccore", "createdump", "libcoreclrtraceptprovider", "libclrgc"];

    private NestedImage(string kernel, string initrd) => (Kernel, Initrd) = (kernel, initrd);

    public string Kernel { get; }

    public string Initrd { get; }

    /// <summary>Builds it in <paramref name="folder"/>. Errors: ImageUnavailable where there is no apt or no network.</summary>
    /// <param name="folder">Where the files are made.</param>
    /// <param name="content">What is in it.</param>
    /// <param name="cancellation">Ends it early.</param>
    public static async Task<NestedImage> BuildAsync(string folder, NestedContent content, CancellationToken cancellation)
    {
        string kernelFolder = await FetchKernelAsync(cancellation);
        string kernel = Path.Combine(kernelFolder, "vmlinuz");
        string busybox = (await new ImageStore().SaveAsync("busybox", cancellation: cancellation)).Path!;
        string inner = Path.Combine(folder, "inner.cpio"), outer = Path.Combine(folder, "outer.cpio");
        var innerOptions = new BusyboxInitrdOptions { Script = "dmesg | grep -i -e unstable -e kvm-clock:; echo \"clocksource $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)\"" };
        await BusyboxInitrd.Create(busybox, innerOptions).WriteFileAsync(inner, compress: false, cancellation);

        const string Prepare = """
            for m in irqbypass kvm kvm-amd; do insmod /lib/modules/$m.ko || exit 3; done
            export DOTNET_ROOT=/dotnet DOTNET_EnableDiagnostics=0 DOTNET_gcServer=0 DOTNET_TieredPGO=0 TMPDIR=/tmp HOME=/root
            """;
        // Which part of the run, or which of its cases, is told by the kernel's command line.
        string script = Prepare + "\n" + (content == NestedContent.Shell
            ? "exec /dotnet/dotnet /shell/VirtPS.Shell.dll /compare.ps1"
            : "exec /dotnet/dotnet /app/VirtPS.Nested.Runner.dll /app/plugins /guest/vmlinuz /guest/initrd debug-exit $(sed -n 's/.*nested=\\([^ ]*\\).*/\\1/p' /proc/cmdline)");
        InitrdBuilder image = BusyboxInitrd.Create(busybox, new BusyboxInitrdOptions { Script = script, PowerOff = true, Marker = "NESTED-OVER" });
        foreach (string module in s_modules)
            image.AddHostFile("/lib/modules/" + module, Path.Combine(kernelFolder, module));
        image.AddHostFile("/guest/vmlinuz", kernel).AddHostFile("/guest/initrd", inner);
        AddRuntime(image);
        if (content == NestedContent.Shell)
            AddShell(image);
        else
            AddProgram(image);
        if (content == NestedContent.RunnerAndQemu)
            AddQemu(image);
        await image.WriteFileAsync(outer, compress: false, cancellation);
        return new NestedImage(kernel, outer);
    }

    /// <summary>Kernel and modules of one package, kept between runs: the package is large and its compression slow to undo.</summary>
    private static async Task<string> FetchKernelAsync(CancellationToken cancellation)
    {
        AptPackage package = await AptClient.ResolveAsync("linux-image-cloud-amd64", "linux-image-", cancellation);
        string cache = Path.Combine(Path.GetTempPath(), "virtps-nested", package.Version.Replace(':', '_'));
        if (Directory.Exists(cache))
            return cache;
        string temporary = Directory.CreateTempSubdirectory("virtps-nested-deb-").FullName;
        try
        {
            string deb = await AptClient.DownloadAsync(package, temporary, cancellation);
            string result = Path.Combine(temporary, "result");
            Directory.CreateDirectory(result);
            await DebPackage.ExtractAllAsync(deb, path =>
                path.StartsWith("boot/vmlinuz-", StringComparison.Ordinal) ? Path.Combine(result, "vmlinuz")
                : s_modules.Contains(Path.GetFileName(path)) ? Path.Combine(result, Path.GetFileName(path)) : null, cancellation);
            Directory.CreateDirectory(Path.GetDirectoryName(cache)!);
            if (!Directory.Exists(cache))
                Directory.Move(result, cache);
            return cache;
        }
        finally
        {
            Directory.Delete(temporary, recursive: true);
        }
    }

    private static void AddRuntime(InitrdBuilder image)
    {
        string framework = RuntimeEnvironment.GetRuntimeDirectory().TrimEnd('/');
        string root = Path.GetFullPath(Path.Combine(framework, "../../.."));
        image.AddHostFile("/dotnet/dotnet", Path.Combine(root, "dotnet"));
        image.AddHostTree("/dotnet/host/fxr", Path.Combine(root, "host", "fxr"));
        string inside = "/dotnet/shared/Microsoft.NETCore.App/" + Path.GetFileName(framework);
        List<string> native = [Path.Combine(root, "dotnet")];
        foreach (string file in Directory.EnumerateFiles(framework).Where(f => !s_notNeeded.Any(n => Path.GetFileName(f).StartsWith(n, StringComparison.Ordinal))))
        {
            image.AddHostFile($"{inside}/{Path.GetFileName(file)}", file);
            if (file.EndsWith(".so", StringComparison.Ordinal))
                native.Add(file);
        }

        foreach (string library in native.SelectMany(LibrariesOf).Distinct().Where(l => !l.StartsWith(root, StringComparison.Ordinal)))
            image.AddHostFile(library, library);
    }

    private static void AddQemu(InitrdBuilder image)
    {
        const string Program = "/usr/bin/qemu-system-x86_64", Firmware = "/usr/share/qemu";
        image.AddHostFile(Program, Program);
        foreach (string library in LibrariesOf(Program).Distinct())
            image.AddHostFile(library, library);
        foreach (string name in (ReadOnlySpan<string>)["qboot.rom", "bios-microvm.bin", "linuxboot.bin", "linuxboot_dma.bin", "pvh.bin", "kvmvapic.bin"])
            image.AddHostFile($"{Firmware}/{name}", $"{Firmware}/{name}");
    }

    /// <summary>What the dynamic linker would load, by its own account.</summary>
    private static IEnumerable<string> LibrariesOf(string file)
    {
        using var ldd = Process.Start(new ProcessStartInfo("ldd", [file]) { RedirectStandardOutput = true, RedirectStandardError = true })!;
        string output = ldd.StandardOutput.ReadToEnd();
        ldd.WaitForExit();
        return output.Split('\n').Select(l => l.Contains("=>", StringComparison.Ordinal) ? l.Split("=>")[1] : l).Select(l => l.Trim().Split(' ')[0]).Where(l => l.StartsWith('/'));
    }

    /// <summary>The shell and the module, as building the solution lays them out.</summary>
    private static void AddShell(InitrdBuilder image)
    {
        string shell = Path.Combine(Repository, "src/Shell/bin/Release/net10.0/linux-x64"), module = Path.Combine(Repository, "artifacts/module/VirtPS");
        image.AddHostTree("/shell", shell).AddHostTree("/artifacts/module/VirtPS", module).AddFile("/compare.ps1", System.Text.Encoding.UTF8.GetBytes(Compare));
        string[] native = [.. Directory.EnumerateFiles(shell, "*.so"), Path.Combine(module, "worker/virtps-worker")];
        // .NET asks for OpenSSL only when it first hashes, PowerShell for the user's name.
        string[] asked = [.. s_openSsl.Where(File.Exists)];
        foreach (string library in native.SelectMany(LibrariesOf).Concat(asked).Concat(asked.SelectMany(LibrariesOf)).Distinct())
            image.AddHostFile(library, library);
        image.AddText("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    }

    private static readonly string[] s_openSsl = ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/usr/lib/x86_64-linux-gnu/libcrypto.so.3"];

    private static string Repository => typeof(NestedImage).Assembly.GetCustomAttributes<AssemblyMetadataAttribute>().Single(a => a.Key == "Repository").Value!;

    private static void AddProgram(InitrdBuilder image)
    {
        string runner = Path.Combine(Repository, "tests/hardware/Nested.Runner/bin/Release/net10.0");
        foreach (string file in Directory.EnumerateFiles(runner))
            image.AddHostFile("/app/" + Path.GetFileName(file), file);
        string[] folders = [.. Directory.EnumerateDirectories(Path.Combine(Repository, "plugins/devices")), Path.Combine(Repository, "plugins/strategies/Hardware"), Path.Combine(Repository, "plugins/strategies/Full")];
        foreach (string folder in folders)
        {
            string output = Path.Combine(folder, "bin/Release/net10.0");
            // A device whose folder was left behind by another branch has not been built.
            if (File.Exists(Path.Combine(output, "plugin.json")))
                image.AddHostTree("/app/plugins/" + Path.GetFileName(folder), output);
        }
    }
}

/// <summary>What a <see cref="NestedImage"/> has to run.</summary>
internal enum NestedContent
{
    Runner,

    /// <summary>And QEMU, to measure beside it.</summary>
    RunnerAndQemu,

    /// <summary>The shell with the module, which compares strategies.</summary>
    Shell,
}
