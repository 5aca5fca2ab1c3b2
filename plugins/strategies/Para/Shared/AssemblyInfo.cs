using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Para.Backends.Tests")]
[assembly: InternalsVisibleTo("Strategy.Para.Tests")]
[assembly: InternalsVisibleTo("Hypercall.Tests")]
[module: SkipLocalsInit]
