using System.Runtime.CompilerServices;
using VirtPS.Sdk.Cpu;

namespace VirtPS.Emulation;

// What keeps generated code true: jump caches, mappings that change, code that changes.
public sealed unsafe partial class SoftVcpu
{
    private uint _userJumpMode, _supervisorJumpMode;

    /// <summary>Lets an indirect branch find the code at a target next time.</summary>
    private void FillJump(ulong target)
    {
        Block* b = BlockTranslator.Handles(N->Mode) ? FindBlock(target) : null;
        if (b != null && HasCode(b, target))
            FillJump(target, b);
    }

    /// <summary>The same, where the block that has the target's code is known.</summary>
    private void FillJump(ulong target, Block* b)
    {
        uint mode = b->Mode;
        // Code that may reach user pages under SMAP is found by nobody else: it branches to its targets' other translations, which reach less, and whose misses the interpreter judges.
        if ((mode & CodeMode.SmapOff) != 0)
            return;
        bool user = (mode & CodeMode.User) != 0;
        (user ? _userJumps! : _supervisorJumps!).Add(target, _cache!.Executable(b->Translation));
        if (user)
            _userJumpsUsed = true;
        else
            _localJumps |= !IsGlobalCode(target);
    }

    /// <summary>
    /// Before generated code is entered in a mode: a jump cache goes by addresses alone, so that it holds 64-bit or 32-bit code, not both, and nothing that takes FS or GS to be
    /// wider than they are. Only far transfers and segment loads change that, and they leave generated code.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private void KeepJumpsOf(uint mode)
    {
        bool user = (mode & CodeMode.User) != 0;
        ref uint kept = ref user ? ref _userJumpMode : ref _supervisorJumpMode;
        if (((kept ^ mode) & CodeMode.SizeMask) == 0 && (kept & CodeMode.WideMask & ~mode) == 0)
        {
            kept |= mode & CodeMode.WideMask;
            return;
        }

        kept = mode & (CodeMode.SizeMask | CodeMode.WideMask);
        ClearJumps(user);
    }

    /// <summary>A supervisor's translation is gone.</summary>
    internal void ForgetJump(ulong linear) => _supervisorJumps!.Remove(linear);

    private void ClearJumps(bool user)
    {
        if (user)
            _userJumpsUsed = false;
        else
            _localJumps = false;
        (user ? _userJumps! : _supervisorJumps!).Clear();
    }

    /// <summary>Mappings of code may have changed.</summary>
    private void TranslationsUnmapped(bool global)
    {
        if (_cache is null)
            return;
        if (_userJumpsUsed)
        {
            ClearJumps(user: true);
            _cache.EmptySlots();
        }

        // Global pages keep their mappings, and with them the jump cache entries that lead there.
        if (global || _localJumps)
            ClearJumps(user: false);
        if (global)
        {
            _cache.DisconnectPages();
            _cache.EmptyGlobalGuards();
        }
    }

    private void TranslationsUnmapped(ulong linear, ulong size)
    {
        // Only what a supervisor's translation was made for, or ring 3's code may be in, matters.
        bool code = _cache is not null && _cache.CodePages.MayBeIn(linear, size);
        if (code || (long)linear >= 0)
            TranslationsUnmapped(global: code);
    }

    // Code that changed.

    /// <summary>Any thread, under the partition's CodeLock: blocks of a page are not good any more.</summary>
    internal void NoteStaleCode(ulong gpa)
    {
        if (_cache is null)
            return;
        if (_stalePageCount < MaxStalePages)
            _stalePages[_stalePageCount] = gpa;
        _stalePageCount++;
        Interlocked.Or(ref S->Requests, RequestStaleCode);
        Kick();
    }

    private void DropStaleTranslations()
    {
        bool user = false, all = false;
        lock (Partition.CodeLock)
        {
            Interlocked.And(ref S->Requests, ~RequestStaleCode);
            if (_cache is not null)
            {
                all = _stalePageCount > MaxStalePages;
                if (all)
                    _cache.DropAllStale();
                for (int i = 0; i < Math.Min(_stalePageCount, MaxStalePages); i++)
                    user |= _cache.DropStale(_stalePages[i], this);
            }

            _stalePageCount = 0;
        }

        if (user || all)
            ClearJumps(user: true);
        if (all)
            ClearJumps(user: false);
    }
}
