/* What keeps the kernel busy: processes, pipes, system calls, page faults; and the string instructions. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

static uint64_t fork_exec(unsigned scale)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < 100 * scale; i++) {
        pid_t child = fork();
        if (child == 0) {
            char *argv[] = { "bench", "nothing", NULL }, *envp[] = { NULL };
            execve("/proc/self/exe", argv, envp);
            _exit(99);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child) abort();
        sum += WEXITSTATUS(status);
    }
    return sum;
}

static uint64_t pipes(unsigned scale)
{
    int to[2], from[2];
    if (pipe(to) || pipe(from)) abort();
    pid_t child = fork();
    if (child == 0) {
        close(to[1]);
        for (uint64_t v; read(to[0], &v, sizeof v) == sizeof v;) {
            v = v * 3 + 1;
            if (write(from[1], &v, sizeof v) != sizeof v) abort();
        }
        _exit(0);
    }
    uint64_t v = 1;
    for (unsigned i = 0; i < 10000 * scale; i++)
        if (write(to[1], &v, sizeof v) != sizeof v || read(from[0], &v, sizeof v) != sizeof v) abort();
    close(to[1]);
    waitpid(child, NULL, 0);
    return v;
}

static uint64_t get_pid(unsigned scale)
{
    uint64_t same = 0;
    long first = syscall(SYS_getpid);
    for (unsigned i = 0; i < 600000 * scale; i++) same += syscall(SYS_getpid) == first;
    return same;
}

static uint64_t page_faults(unsigned scale)
{
    enum { SIZE = 16 << 20 };
    uint64_t sum = 0;
    for (unsigned round = 0; round < 10 * scale; round++) {
        uint8_t *p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) abort();
        madvise(p, SIZE, MADV_NOHUGEPAGE);
        for (size_t i = 0; i < SIZE; i += 4096) { p[i] = (uint8_t)i; sum += p[i + 1] + 1u; }
        munmap(p, SIZE);
    }
    return sum;
}

static uint64_t rep_movs(unsigned scale)
{
    enum { N = 1 << 16 };
    static uint8_t a[N], b[N];
    for (int i = 0; i < N; i++) a[i] = (uint8_t)(i * 7);
    uint64_t sum = 0;
    for (unsigned i = 0; i < 40000 * scale; i++) {
        void *to = b, *from = a;
        size_t n = N / 8;
        a[i % N] += 1;
        __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        sum += b[i % N];
    }
    return sum;
}

/* Short ones, as copies between user and kernel are: 8 bytes to a page, by bytes and by eight. */
static uint64_t rep_short(unsigned scale)
{
    static uint8_t a[8192], b[8192];
    uint64_t sum = 0, seed = 11;
    for (unsigned i = 0; i < 300000 * scale; i++) {
        uint64_t r = next_random(&seed);
        void *to = b + (r & 2047), *from = a + (r >> 11 & 2047), *clear = b;
        size_t n = 8u << (r >> 22 & 7), words = n / 8;
        __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
        __asm__ volatile("rep stosq" : "+D"(clear), "+c"(words) : "a"(r) : "memory");
        a[r >> 40 & 4095] = (uint8_t)i;
        sum += b[r >> 50 & 2047];
    }
    return sum;
}

const struct kernel system_kernels[] = {
    { "fork-exec", fork_exec }, { "pipes", pipes }, { "getpid", get_pid }, { "page-faults", page_faults }, { "rep-movs", rep_movs }, { "rep-short", rep_short }, { 0, 0 },
};
