using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("Para.Backends.Tests")]
[assembly: InternalsVisibleTo("Hypercall.Fuzz")]
