/*
 * Runs the plan and reports on standard output; the same program on the host and as the guest's init.
 *   bench run <plan> <folder> [repeat] [filter]    every test, in a scratch folder
 *   bench smp <kernel> <scale>                     one worker, then two at once
 * A report line: "@@ T <class> <test> <seconds> <checksum>", an error "@@ E ...". "@@ START" and "@@ DONE" carry the guest's own clock, so that
 * the other side can hold it against the wall's.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bench.h"

struct outcome { uint64_t ns, checksum; };

/* The C library and OpenSSL choose code by CPUID, as they do for a user: AVX-512 on the host and in our guest, AVX2 in QEMU's. */
static char *const environment[] = { "PATH=/usr/bin:/bin", "LC_ALL=C", "PYTHONHASHSEED=0", "PYTHONDONTWRITEBYTECODE=1", NULL };

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

work find_kernel(const char *name)
{
    const struct kernel *tables[] = { integer_kernels, float_kernels, system_kernels };
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct kernel *k = tables[i]; k->name; k++)
            if (!strcmp(k->name, name)) return k->run;
    return NULL;
}

/* Runs a kernel in a child of its own: fresh memory each time, and a crash is one test's. */
static int run_kernel(work run, unsigned scale, struct outcome *out)
{
    struct outcome *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        uint64_t start = now_ns();
        shared->checksum = run(scale);
        shared->ns = now_ns() - start;
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    *out = *shared;
    munmap(shared, 4096);
    return status;
}

static uint64_t checksum_file(const char *path, double *rate)
{
    static char buffer[1 << 16];
    uint64_t sum = 0xCBF29CE484222325ULL;
    FILE *f = fopen(path, "r");
    if (!f) return 0;
    if (rate) {
        /* openssl speed -mr: "+F:<n>:<name>:<per second>" (ciphers, digests) or "+F2:<n>:<bits>:<signatures per second>:<...>", counted as millions. */
        while (fgets(buffer, sizeof buffer, f)) {
            double v;
            if (sscanf(buffer, "+F:%*d:%*[^:]:%lf", &v) == 1) *rate = v;
            else if (sscanf(buffer, "+F2:%*d:%*d:%lf", &v) == 1 ) *rate = 1e6 * v;
        }
        sum = *rate > 0;
    } else {
        for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;)
            for (size_t i = 0; i < n; i++) sum = (sum ^ (uint8_t)buffer[i]) * 0x100000001B3ULL;
    }
    fclose(f);
    return sum;
}

/* Runs a program with its output in a file. With rated set its own figure (units per second) makes the time of a billion units. */
static int run_program(char **argv, int rated, struct outcome *out)
{
    uint64_t start = now_ns();
    pid_t child = fork();
    if (child == 0) {
        int fd = open("output", O_WRONLY | O_CREAT | O_TRUNC, 0600), null = open("/dev/null", O_RDWR);
        dup2(null, 0);
        dup2(fd, 1);
        dup2(null, 2);
        execvpe(argv[0], argv, environment);
        _exit(127);
    }
    int status = 0;
    waitpid(child, &status, 0);
    out->ns = now_ns() - start;
    double rate = 0;
    out->checksum = checksum_file("output", rated ? &rate : NULL);
    if (rated && !status) {
        if (rate <= 0) return 1;
        out->ns = (uint64_t)(1e18 / rate);
    }
    return status;
}

/* Splits a command at blanks; quotes hold blanks together. */
static int split(char *line, char **argv, int max)
{
    int n = 0;
    for (char *p = line; *p && n < max - 1;) {
        while (*p == ' ') p++;
        if (!*p) break;
        char end = ' ';
        if (*p == '\'') { end = '\''; p++; }
        argv[n++] = p;
        while (*p && *p != end) p++;
        if (*p) *p++ = 0;
    }
    argv[n] = NULL;
    return n;
}

/* Text with a natural language's repetitions, the same everywhere. */
static void make_input(const char *path, size_t size)
{
    static const char *const words[] = {
        "the", "of", "and", "memory", "page", "segment", "a", "to", "in", "processor", "is", "register", "interrupt", "that", "privilege", "level",
        "for", "instruction", "with", "table", "descriptor", "task", "on", "gate", "as", "code", "stack", "exception", "linear", "address", "when", "0x1F",
    };
    uint64_t seed = 2026;
    FILE *f = fopen(path, "w");
    if (!f) { printf("@@ E cannot write %s\n", path); exit(1); }
    for (size_t n = 0; n < size;) {
        uint64_t r = next_random(&seed);
        n += (size_t)fprintf(f, (r >> 20 & 15) == 0 ? "%s %u\n" : (r >> 20 & 15) == 1 ? "%s.\n" : "%s ", words[(r >> 58 & (r >> 50) & 31) ^ (r >> 59)],
            (unsigned)(r >> 30 & 0xFFFF));
    }
    fclose(f);
}

static void run_plan(const char *plan, unsigned repeat, const char *filter)
{
    char line[1024];
    FILE *f = fopen(plan, "r");
    if (!f) { printf("@@ E no plan %s: %s\n", plan, strerror(errno)); return; }
    while (fgets(line, sizeof line, f)) {
        char class[32], name[64], kind[16];
        int at = 0;
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || sscanf(line, "%31s %63s %15s %n", class, name, kind, &at) < 3) continue;
        if (filter && !strstr(filter, class)) continue;
        struct outcome best = { UINT64_MAX, 0 };
        int status = 0;
        char *argv[64], command[1024];
        for (unsigned i = 0; i < repeat && !status; i++) {
            struct outcome out = { 0, 0 };
            strcpy(command, line + at);
            if (!strcmp(kind, "kernel")) {
                work run = find_kernel(name);
                status = run ? run_kernel(run, (unsigned)atoi(command), &out) : -1;
            } else {
                split(command, argv, 64);
                status = run_program(argv, !strcmp(kind, "rate"), &out);
            }
            if (i && out.checksum != best.checksum) status = -2;
            if (out.ns < best.ns) best = out;
        }
        if (status) printf("@@ E %s %s status %d\n", class, name, status);
        else printf("@@ T %s %s %.6f %016llx\n", class, name, (double)best.ns / 1e9, (unsigned long long)best.checksum);
        fflush(stdout);
    }
    fclose(f);
}

/* The same work by one process, and by two at once: what a second processor is worth is 2 * one / two. */
static void run_smp(const char *name, unsigned scale)
{
    work run = find_kernel(name);
    struct outcome one, warm;
    if (!run || run_kernel(run, scale, &warm) || run_kernel(run, scale, &one)) { printf("@@ E smp %s\n", name); return; }
    uint64_t start = now_ns();
    for (int i = 0; i < 2; i++)
        if (fork() == 0) { run(scale); _exit(0); }
    while (wait(NULL) > 0) {}
    uint64_t two = now_ns() - start;
    printf("@@ S %s %.6f %.6f %.3f\n", name, (double)one.ns / 1e9, (double)two / 1e9, 2.0 * (double)one.ns / (double)two);
    fflush(stdout);
}

static void report(const char *what) { printf("@@ %s %llu\n", what, (unsigned long long)now_ns()); fflush(stdout); }

/* As the guest's init: the kernel hands over what stands behind "--" on its command line. */
static void start_guest(void)
{
    mkdir("/proc", 0755);
    mkdir("/dev", 0755);
    mkdir("/tmp", 01777);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
    mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(console, fd);
}

int main(int argc, char **argv)
{
    int guest = getpid() == 1, code = 0;
    if (guest) start_guest();
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 2 && !strcmp(argv[1], "nothing")) return 7;
    report("START");
    if (argc >= 4 && !strcmp(argv[1], "run")) {
        if (chdir(argv[3])) { printf("@@ E no folder %s\n", argv[3]); code = 1; }
        else {
            make_input("text", 2 << 20);
            make_input("large", 8 << 20);
            run_plan(argv[2], argc > 4 ? (unsigned)atoi(argv[4]) : 1, argc > 5 ? argv[5] : NULL);
        }
    } else if (argc >= 4 && !strcmp(argv[1], "smp")) {
        for (int i = 2; i + 1 < argc; i += 2) run_smp(argv[i], (unsigned)atoi(argv[i + 1]));
    } else if (argc >= 2 && !strcmp(argv[1], "boot")) {
        printf("@@ BOOTED\n");
    } else {
        printf("@@ E usage: bench run <plan> <folder> [repeat] [classes] | smp <kernel> <scale> ... | boot\n");
        code = 2;
    }
    report("DONE");
    if (guest) {
        sync();
        reboot(RB_POWER_OFF);
        for (;;) pause();
    }
    return code;
}
