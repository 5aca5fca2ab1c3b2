/* Integer loops of several kinds. Each takes some 50 to 150 ms on a processor of 2023 at scale 1. */
#include <stdlib.h>
#include <string.h>
#include "bench.h"

#define NOINLINE __attribute__((noinline))

static uint64_t sieve(unsigned scale)
{
    enum { N = 1 << 20 };
    static uint8_t composite[N];
    uint64_t sum = 0;
    for (unsigned round = 0; round < 20 * scale; round++) {
        memset(composite, 0, sizeof composite);
        for (unsigned i = 2; i * i < N; i++)
            if (!composite[i])
                for (unsigned j = i * i; j < N; j += i) composite[j] = 1;
        for (unsigned i = 2; i < N; i++) sum += !composite[i];
    }
    return sum;
}

static uint64_t crc(unsigned scale)
{
    static uint32_t table[256];
    static uint8_t data[1 << 16];
    uint64_t seed = 88172645463325252ULL;
    for (unsigned i = 0; i < 256; i++) {
        uint32_t c = i;
        for (int k = 0; k < 8; k++) c = c & 1 ? 0xEDB88320u ^ (c >> 1) : c >> 1;
        table[i] = c;
    }
    for (size_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)next_random(&seed);
    uint32_t c = ~0u;
    for (unsigned round = 0; round < 500 * scale; round++)
        for (size_t i = 0; i < sizeof data; i++) c = table[(c ^ data[i]) & 0xFF] ^ (c >> 8);
    return ~c;
}

/* Byte-wise string work written out: what compilers make of it, not what the C library has for it. */
static NOINLINE size_t find_word(const char *text, size_t length, const char *word)
{
    size_t count = 0, size = strlen(word);
    for (size_t i = 0; i + size <= length; i++) {
        size_t k = 0;
        while (k < size && text[i + k] == word[k]) k++;
        count += k == size;
    }
    return count;
}

static uint64_t strings(unsigned scale)
{
    static char text[1 << 18], copy[1 << 18];
    uint64_t seed = 1234567, sum = 0;
    for (size_t i = 0; i < sizeof text; i++) {
        unsigned r = next_random(&seed) >> 40 & 31;
        text[i] = r < 26 ? (char)('a' + r) : ' ';
    }
    for (unsigned round = 0; round < 60 * scale; round++) {
        size_t j = 0;
        for (size_t i = 0; i < sizeof text; i++) {
            char c = text[i];
            if (c >= 'a' && c <= 'z') c = (char)(c - 'a' + 'A');
            if (c != ' ' || (j && copy[j - 1] != ' ')) copy[j++] = c;
        }
        sum += j + find_word(copy, j, round & 1 ? "ABC" : "XY");
    }
    return sum;
}

static NOINLINE void copy_words(uint64_t *to, const uint64_t *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = from[i];
        __asm__ volatile("" ::: "memory"); /* a loop of 8-byte moves it stays, no call of memcpy */
    }
}

static uint64_t copy(unsigned scale)
{
    enum { N = 4096 };
    static uint64_t a[N], b[N];
    for (int i = 0; i < N; i++) a[i] = (uint64_t)i * 0x9E3779B97F4A7C15ULL;
    for (unsigned round = 0; round < 25000 * scale; round++) {
        a[round % N] += round;
        copy_words(b, a, N);
    }
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) sum = sum * 31 + b[i];
    return sum;
}

/* Above O1 the compiler unrolls the recursion into loops. */
#define RECURSIVE __attribute__((noinline, optimize("O1")))

static RECURSIVE unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static RECURSIVE unsigned ackermann(unsigned m, unsigned n)
{
    if (m == 0) return n + 1;
    return ackermann(m - 1, n == 0 ? 1 : ackermann(m, n - 1));
}

static uint64_t recursion(unsigned scale)
{
    uint64_t sum = 0;
    for (unsigned round = 0; round < scale; round++) {
        volatile unsigned n = 33;
        sum += fibonacci(n) + ackermann(2, 900);
    }
    return sum;
}

static void heap_sort(uint32_t *v, size_t n)
{
    for (size_t start = n / 2, end = n; end > 1;) {
        if (start) start--;
        else { end--; uint32_t t = v[end]; v[end] = v[0]; v[0] = t; }
        for (size_t root = start, child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && v[child] < v[child + 1]) child++;
            if (v[root] >= v[child]) break;
            uint32_t t = v[root]; v[root] = v[child]; v[child] = t;
        }
    }
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static uint64_t sort(unsigned scale)
{
    enum { N = 100000 };
    static uint32_t v[N];
    uint64_t seed = 42, sum = 0;
    for (unsigned round = 0; round < 8 * scale; round++) {
        for (int i = 0; i < N; i++) v[i] = (uint32_t)(next_random(&seed) >> 32);
        if (round & 1) qsort(v, N, sizeof *v, compare);
        else heap_sort(v, N);
        for (int i = 1; i < N; i++) sum += v[i - 1] > v[i] ? 1000000 : v[i] & 1;
    }
    return sum;
}

/* A small stack machine: one unpredictable jump through a table per instruction. */
static NOINLINE uint64_t machine(const uint8_t *code, size_t length, uint64_t *stack, unsigned rounds)
{
    uint64_t a = 1, b = 2, *top = stack;
    for (unsigned round = 0; round < rounds; round++) {
        for (size_t i = 0; i < length; i++) {
            switch (code[i]) {
            case 0: a += b; break;
            case 1: b ^= a; break;
            case 2: *top++ = a; break;
            case 3: if (top > stack) a = *--top; break;
            case 4: b = (b << 7) | (b >> 57); break;
            case 5: a -= 3; break;
            case 6: a = ~a; break;
            case 7: if (a & 1) b++; break;
            case 8: { uint64_t t = a; a = b; b = t; break; }
            case 9: a *= 0x9E3779B97F4A7C15ULL; break;
            default: top = stack; break;
            }
        }
        top = stack;
    }
    return a ^ b;
}

static uint64_t dispatch(unsigned scale)
{
    enum { N = 2048 };
    static uint8_t code[N];
    static uint64_t stack[N];
    uint64_t seed = 7;
    for (int i = 0; i < N; i++) code[i] = (uint8_t)((next_random(&seed) >> 33) % 11);
    return machine(code, N, stack, 12000 * scale);
}

struct shape { uint64_t (*area)(const struct shape *); uint32_t w, h; };
static NOINLINE uint64_t rectangle(const struct shape *s) { return (uint64_t)s->w * s->h; }
static NOINLINE uint64_t triangle(const struct shape *s) { return (uint64_t)s->w * s->h / 2; }
static NOINLINE uint64_t square(const struct shape *s) { return (uint64_t)s->w * s->w; }
static NOINLINE uint64_t frame(const struct shape *s) { return 2ULL * (s->w + s->h); }

static uint64_t indirect(unsigned scale)
{
    enum { N = 4096 };
    static struct shape shapes[N];
    static uint64_t (*const kinds[])(const struct shape *) = { rectangle, triangle, square, frame };
    uint64_t seed = 99, sum = 0;
    for (int i = 0; i < N; i++) {
        uint64_t r = next_random(&seed);
        shapes[i] = (struct shape){ kinds[r >> 62], r & 0xFFFF, r >> 16 & 0xFFFF };
    }
    for (unsigned round = 0; round < 8000 * scale; round++)
        for (int i = 0; i < N; i++) sum += shapes[i].area(&shapes[i]);
    return sum;
}

/* Dependent reads all over 8 MiB: the software TLB's reach. */
static uint64_t random_reads(unsigned scale)
{
    enum { N = 1 << 20 };
    static uint64_t v[N];
    for (unsigned i = 0; i < N; i++) v[i] = ((uint64_t)i * 0x9E3779B97F4A7C15ULL) ^ i;
    uint64_t index = 1, sum = 0;
    for (unsigned i = 0; i < 8000000 * scale; i++) {
        index = (v[index & (N - 1)] >> 20) + i;
        sum += index;
    }
    return sum;
}

const struct kernel integer_kernels[] = {
    { "sieve", sieve }, { "crc", crc }, { "strings", strings }, { "copy", copy }, { "recursion", recursion }, { "sort", sort },
    { "dispatch", dispatch }, { "indirect", indirect }, { "random-reads", random_reads }, { 0, 0 },
};
