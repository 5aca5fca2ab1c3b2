using VirtPS.X86;

namespace VirtPS.Emulation;

/// <summary>
/// For which pages, by linear address, something was translated; hashed, so that what is said of a page may hold for another one. Ring 3's code in the lower half is expected everywhere and not noted. A vCPU's own.
/// </summary>
internal sealed class CodePages
{
    private const int PagesOfWord = 64;
    private const ulong WordMask = 0xFFF, WordBytes = PagesOfWord * (ulong)PageBits.PageSize;

    private readonly ulong[] _words = new ulong[WordMask + 1];

    public void Mark(ulong linear, uint mode)
    {
        if ((mode & CodeMode.User) == 0 || (long)linear < 0)
            _words[linear / WordBytes & WordMask] |= 1ul << (int)(linear / PageBits.PageSize % PagesOfWord);
    }

    /// <summary>Whether there may be code in so many bytes from an address on: one page, or a multiple of 64 pages that begins at one.</summary>
    public bool MayBeIn(ulong linear, ulong size)
    {
        if (size == PageBits.PageSize)
            return (_words[linear / WordBytes & WordMask] >> (int)(linear / PageBits.PageSize % PagesOfWord) & 1) != 0;
        ulong any = 0;
        for (ulong end = linear + size; linear != end; linear += WordBytes)
            any |= _words[linear / WordBytes & WordMask];
        return any != 0;
    }

    public void Clear() => Array.Clear(_words);
}
