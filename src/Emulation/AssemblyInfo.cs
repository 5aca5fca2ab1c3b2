using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VirtPS.Emulation.Tests")]
[assembly: InternalsVisibleTo("VirtPS.Opcodes")]
[assembly: InternalsVisibleTo("Vector.Tests")]
[module: SkipLocalsInit]
