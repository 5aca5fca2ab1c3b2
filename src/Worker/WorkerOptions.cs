using VirtPS.Client;
using VirtPS.Sdk;

namespace VirtPS.Worker;

/// <summary>The worker's command line. People do not type it; the client does.</summary>
internal sealed record WorkerOptions
{
    public required string StorePath { get; init; }

    public required string PluginRegistry { get; init; }

    /// <summary>The module's folder, with <c>plugins/</c> in it; null: no plugins of the module's own.</summary>
    public string? ModuleFolder { get; init; }

    /// <summary>The VM to run; null with <see cref="Probe"/>.</summary>
    public Guid? VMId { get; init; }

    /// <summary>Say what strategies this host supports, and end.</summary>
    public bool Probe { get; init; }

    public const string Usage =
        """
        virtps-worker runs one VM. It is started by Start-VirtVM, not by hand.
          virtps-worker --vm <id> --store <folder> --plugin-registry <file> [--module <folder>]
          virtps-worker --probe   --store <folder> --plugin-registry <file> [--module <folder>]
        """;

    /// <summary>Errors: ConfigurationInvalid.</summary>
    public static WorkerOptions Parse(IReadOnlyList<string> arguments)
    {
        var values = new Dictionary<string, string>(StringComparer.Ordinal);
        bool probe = false;
        for (int i = 0; i < arguments.Count; i++)
        {
            if (arguments[i] == "--probe")
                probe = true;
            else if (arguments[i] is "--vm" or "--store" or "--plugin-registry" or "--module" && i + 1 < arguments.Count)
                values[arguments[i]] = arguments[++i];
            else
                throw Wrong($"'{arguments[i]}' is not understood");
        }

        if (!values.TryGetValue("--store", out string? store) || !values.TryGetValue("--plugin-registry", out string? registry))
            throw Wrong("--store and --plugin-registry are needed");
        Guid? id = null;
        if (values.TryGetValue("--vm", out string? text))
            id = Guid.TryParseExact(text, "D", out Guid parsed) ? parsed : throw Wrong($"'{text}' is not a VM's id");
        if (probe == id is not null)
            throw Wrong("either --vm or --probe is needed");
        string? module = values.TryGetValue("--module", out string? given) ? Path.GetFullPath(given) : null;
        return new WorkerOptions { StorePath = Path.GetFullPath(store), PluginRegistry = Path.GetFullPath(registry), ModuleFolder = module, VMId = id, Probe = probe };
    }

    private static VirtException Wrong(string what) => new(ErrorIds.ConfigurationInvalid, $"virtps-worker: {what}.{Environment.NewLine}{Usage}");
}
