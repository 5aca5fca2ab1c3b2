namespace VirtPS.Emulation;

// Indirect branches: where generated code finds the jump cache, and the look at its second table.
internal sealed unsafe partial class Stubs
{
    /// <summary>Where the tags of the jump cache's first table are.</summary>
    public static HostMemory JumpTags(bool user) => HostMemory.State(VcpuMemory.JumpTagsOffset + (user ? 8 : 0));

    /// <summary>The host address beside the tag with the index in R11.</summary>
    public static HostMemory JumpHosts(bool user) => HostMemory.Array(HostReg.R11, VcpuMemory.JumpOffset + (user ? VcpuMemory.JumpCacheBytes : 0) + VcpuMemory.JumpArrayBytes);

    private static int SecondJumpTags(bool user) => VcpuMemory.JumpOffset + (user ? VcpuMemory.JumpCacheBytes : 0) + VcpuMemory.SecondJumpOffset;

    private void EmitSecondLook(ref HostAssembler a, bool user)
    {
        if (!_host.Bmi2)
        {
            EmitSecondLookWithFlagsAside(ref a, user);
            return;
        }

        HostMemory save = HostMemory.State(VcpuMemory.SaveOffset);
        int tags = SecondJumpTags(user);
        a.Store32(HostMemory.State(s_exitSite), HostReg.R11);
        a.Store(save, HostReg.Rcx);
        a.Rorx(HostReg.R11, HostReg.R10, JumpCache.SecondFold);
        a.Lea(HostReg.R11, new HostMemory(HostReg.R11, 0, HostReg.R10));
        a.Pext(HostReg.R11, HostReg.R11, HostMemory.State(VcpuMemory.JumpMaskOffset));
        a.Load(HostReg.Rcx, HostMemory.Array(HostReg.R11, tags));
        a.Lea(HostReg.Rcx, new HostMemory(HostReg.Rcx, 0, HostReg.R10));
        byte* hit = a.JumpIfRcxZero();
        a.Load(HostReg.Rcx, save);
        a.Load32(HostReg.R11, HostMemory.State(s_exitSite));
        a.Jump(ExitIndirect.Address);
        a.BindShort(hit);
        a.Load(HostReg.Rcx, save);
        if (user)
            EmitSetPageBase(ref a);
        a.JumpMemory(HostMemory.Array(HostReg.R11, tags + VcpuMemory.SecondJumpArrayBytes));
    }

    /// <summary>The page of the address in R10 becomes the one that ring 3 executes in. Changes R10.</summary>
    public static void EmitSetPageBase(ref HostAssembler a)
    {
        // The stack pointer is 12 modulo 64.
        a.Shrx(HostReg.R10, HostReg.R10, HostReg.Rsp);
        a.Shlx(HostReg.R10, HostReg.R10, HostReg.Rsp);
        a.Store(HostMemory.State(VcpuMemory.PageBaseOffset), HostReg.R10);
    }
}
