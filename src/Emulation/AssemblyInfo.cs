using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VirtPS.Emulation.Tests")]
[assembly: InternalsVisibleTo("VirtPS.Opcodes")]
[assembly: InternalsVisibleTo("VirtPS.Opcodes.Tests")]
[module: SkipLocalsInit]
