/* The guest programs of the speed measurements: what they share. */
#ifndef VIRTPS_BENCH_H
#define VIRTPS_BENCH_H

#include <stddef.h>
#include <stdint.h>

/* A piece of work. It returns a checksum, which must be the same wherever it runs; scale multiplies the amount of work. */
typedef uint64_t (*work)(unsigned scale);

struct kernel {
    const char *name;
    work run;
};

extern const struct kernel integer_kernels[];
extern const struct kernel float_kernels[];
extern const struct kernel system_kernels[];

/* Looks a kernel up in the three tables; NULL where there is none of that name. */
work find_kernel(const char *name);

uint64_t now_ns(void);

/* Reproducible pseudo-random numbers (xorshift64*), the same on every machine. */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545F4914F6CDD1DULL;
}

#endif
