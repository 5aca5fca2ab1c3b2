using System.Runtime.CompilerServices;

[assembly: InternalsVisibleTo("VirtPS.Boot.Tests")]
