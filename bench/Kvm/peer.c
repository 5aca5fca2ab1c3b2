// The least that a program can do for a guest's port writes: KVM_RUN again and again. Same guest, same /dev/kvm as the C# side.
// Prints exits per second. Argument: seconds.
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? atof(argv[1]) : 1;
    // out 0x80, al; jmp to it
    static const unsigned char code[] = { 0xE6, 0x80, 0xEB, 0xFC };
    int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), vm = ioctl(kvm, KVM_CREATE_VM, 0);
    unsigned char *memory = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    memcpy(memory + 0x7C00, code, sizeof code);
    struct kvm_userspace_memory_region region = { .memory_size = 1 << 20, .userspace_addr = (unsigned long)memory };
    if (vm < 0 || ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return perror("KVM"), 1;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
    struct kvm_run *run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    struct kvm_sregs sregs;
    ioctl(vcpu, KVM_GET_SREGS, &sregs);
    sregs.cs.base = sregs.cs.selector = 0;
    ioctl(vcpu, KVM_SET_SREGS, &sregs);
    struct kvm_regs regs = { .rip = 0x7C00, .rflags = 2 };
    ioctl(vcpu, KVM_SET_REGS, &regs);
    unsigned long exits = 0;
    double start = now(), end = start + seconds;
    do {
        for (int i = 0; i < 256; i++, exits++) {
            if (ioctl(vcpu, KVM_RUN, 0) < 0 || run->exit_reason != KVM_EXIT_IO)
                return fprintf(stderr, "exit %u\n", run->exit_reason), 1;
        }
    } while (now() < end);
    printf("%.0f\n", exits / (now() - start));
    return 0;
}
