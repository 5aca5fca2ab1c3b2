/* Double precision, scalar and packed, with SSE2 and AVX2. No fused multiply-add in what is summed: the checksums must agree everywhere. */
#include <immintrin.h>
#include <math.h>
#include <string.h>
#include "bench.h"

#define AVX2 __attribute__((target("avx2")))

static uint64_t bits(double d)
{
    uint64_t b;
    memcpy(&b, &d, sizeof b);
    return b;
}

enum { M = 192 };
static double ma[M][M] __attribute__((aligned(64))), mb[M][M] __attribute__((aligned(64))), mc[M][M] __attribute__((aligned(64)));

static void fill_matrices(void)
{
    for (int i = 0; i < M; i++)
        for (int j = 0; j < M; j++) {
            ma[i][j] = (i * 3 + j) % 17 * 0.25;
            mb[i][j] = (i + j * 5) % 13 * 0.5 - 1;
        }
    memset(mc, 0, sizeof mc);
}

static uint64_t matrix_scalar(unsigned scale)
{
    fill_matrices();
    for (unsigned round = 0; round < 6 * scale; round++)
        for (int i = 0; i < M; i++)
            for (int j = 0; j < M; j++) {
                double sum = 0;
                for (int k = 0; k < M; k++) sum += ma[i][k] * mb[k][j];
                mc[i][j] += sum;
            }
    return bits(mc[M / 2][M / 3]);
}

static uint64_t matrix_sse2(unsigned scale)
{
    fill_matrices();
    for (unsigned round = 0; round < 16 * scale; round++)
        for (int i = 0; i < M; i++)
            for (int k = 0; k < M; k++) {
                __m128d a = _mm_set1_pd(ma[i][k]);
                for (int j = 0; j < M; j += 2)
                    _mm_store_pd(&mc[i][j], _mm_add_pd(_mm_load_pd(&mc[i][j]), _mm_mul_pd(a, _mm_load_pd(&mb[k][j]))));
            }
    return bits(mc[M / 2][M / 3]);
}

AVX2 static uint64_t matrix_avx2(unsigned scale)
{
    fill_matrices();
    for (unsigned round = 0; round < 24 * scale; round++)
        for (int i = 0; i < M; i++)
            for (int k = 0; k < M; k++) {
                __m256d a = _mm256_set1_pd(ma[i][k]);
                for (int j = 0; j < M; j += 4)
                    _mm256_store_pd(&mc[i][j], _mm256_add_pd(_mm256_load_pd(&mc[i][j]), _mm256_mul_pd(a, _mm256_load_pd(&mb[k][j]))));
            }
    return bits(mc[M / 2][M / 3]);
}

struct body { double x[3], v[3], mass; };

static uint64_t nbody(unsigned scale)
{
    struct body b[5] = {
        { { 0, 0, 0 }, { 0, 0, 0 }, 39.47 }, { { 4.84, -1.16, -0.10 }, { 0.606, 2.81, -0.02 }, 0.037 },
        { { 8.34, 4.12, -0.4 }, { -1.01, 1.82, 0.008 }, 0.011 }, { { 12.89, -15.11, -0.22 }, { 1.08, 0.868, -0.01 }, 0.0017 },
        { { 15.37, -25.9, 0.179 }, { 0.979, 0.594, -0.034 }, 0.002 },
    };
    for (unsigned step = 0; step < 400000 * scale; step++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r2 = 0;
                for (int k = 0; k < 3; k++) { d[k] = b[i].x[k] - b[j].x[k]; r2 += d[k] * d[k]; }
                double mag = 0.001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) { b[i].v[k] -= d[k] * b[j].mass * mag; b[j].v[k] += d[k] * b[i].mass * mag; }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++) b[i].x[k] += 0.001 * b[i].v[k];
    }
    return bits(b[1].x[0]) ^ bits(b[4].v[2]);
}

/* Four bodies' interactions at once. */
AVX2 static uint64_t nbody_avx2(unsigned scale)
{
    enum { N = 64 };
    static double x[N] __attribute__((aligned(32))), y[N] __attribute__((aligned(32))), m[N] __attribute__((aligned(32)));
    static double vx[N] __attribute__((aligned(32))), vy[N] __attribute__((aligned(32)));
    uint64_t seed = 5;
    for (int i = 0; i < N; i++) {
        x[i] = (double)(next_random(&seed) >> 40) / 65536;
        y[i] = (double)(next_random(&seed) >> 40) / 65536;
        m[i] = 1 + i % 7;
        vx[i] = vy[i] = 0;
    }
    __m256d soft = _mm256_set1_pd(0.01), one = _mm256_set1_pd(1.0);
    for (unsigned step = 0; step < 3000 * scale; step++) {
        for (int i = 0; i < N; i++) {
            __m256d xi = _mm256_set1_pd(x[i]), yi = _mm256_set1_pd(y[i]), ax = _mm256_setzero_pd(), ay = ax;
            for (int j = 0; j < N; j += 4) {
                __m256d dx = _mm256_sub_pd(_mm256_load_pd(x + j), xi), dy = _mm256_sub_pd(_mm256_load_pd(y + j), yi);
                __m256d r2 = _mm256_add_pd(_mm256_add_pd(_mm256_mul_pd(dx, dx), _mm256_mul_pd(dy, dy)), soft);
                __m256d f = _mm256_mul_pd(_mm256_load_pd(m + j), _mm256_div_pd(one, _mm256_mul_pd(r2, _mm256_sqrt_pd(r2))));
                ax = _mm256_add_pd(ax, _mm256_mul_pd(dx, f));
                ay = _mm256_add_pd(ay, _mm256_mul_pd(dy, f));
            }
            double sx[4], sy[4];
            _mm256_storeu_pd(sx, ax);
            _mm256_storeu_pd(sy, ay);
            vx[i] += 0.001 * (sx[0] + sx[1] + sx[2] + sx[3]);
            vy[i] += 0.001 * (sy[0] + sy[1] + sy[2] + sy[3]);
        }
        for (int i = 0; i < N; i++) { x[i] += vx[i]; y[i] += vy[i]; }
    }
    return bits(x[3]) ^ bits(y[60]);
}

static uint64_t mandelbrot_scalar(unsigned scale)
{
    uint64_t sum = 0;
    for (int py = 0; py < 160; py++)
        for (int px = 0; px < 160; px++) {
            double cr = px / 80.0 - 1.5, ci = py / 80.0 - 1, r = 0, i = 0;
            unsigned n = 0;
            for (; n < 200 * scale && r * r + i * i < 4; n++) {
                double t = r * r - i * i + cr;
                i = 2 * r * i + ci;
                r = t;
            }
            sum += n;
        }
    return sum;
}

static uint64_t mandelbrot_sse2(unsigned scale)
{
    uint64_t sum = 0;
    const __m128d four = _mm_set1_pd(4), one = _mm_set1_pd(1);
    for (int py = 0; py < 240; py++)
        for (int px = 0; px < 240; px += 2) {
            __m128d cr = _mm_set_pd((px + 1) / 120.0 - 1.5, px / 120.0 - 1.5), ci = _mm_set1_pd(py / 120.0 - 1);
            __m128d r = _mm_setzero_pd(), i = r, n = r;
            for (unsigned k = 0; k < 200 * scale; k++) {
                __m128d r2 = _mm_mul_pd(r, r), i2 = _mm_mul_pd(i, i), in = _mm_cmplt_pd(_mm_add_pd(r2, i2), four);
                if (!_mm_movemask_pd(in)) break;
                n = _mm_add_pd(n, _mm_and_pd(in, one));
                __m128d ri = _mm_mul_pd(r, i);
                i = _mm_add_pd(_mm_add_pd(ri, ri), ci);
                r = _mm_add_pd(_mm_sub_pd(r2, i2), cr);
            }
            double v[2];
            _mm_storeu_pd(v, n);
            sum += (uint64_t)(v[0] + v[1]);
        }
    return sum;
}

AVX2 static uint64_t mandelbrot_avx2(unsigned scale)
{
    uint64_t sum = 0;
    const __m256d four = _mm256_set1_pd(4), one = _mm256_set1_pd(1);
    for (int py = 0; py < 320; py++)
        for (int px = 0; px < 320; px += 4) {
            __m256d cr = _mm256_set_pd((px + 3) / 160.0 - 1.5, (px + 2) / 160.0 - 1.5, (px + 1) / 160.0 - 1.5, px / 160.0 - 1.5);
            __m256d ci = _mm256_set1_pd(py / 160.0 - 1), r = _mm256_setzero_pd(), i = r, n = r;
            for (unsigned k = 0; k < 200 * scale; k++) {
                __m256d r2 = _mm256_mul_pd(r, r), i2 = _mm256_mul_pd(i, i), in = _mm256_cmp_pd(_mm256_add_pd(r2, i2), four, _CMP_LT_OQ);
                if (!_mm256_movemask_pd(in)) break;
                n = _mm256_add_pd(n, _mm256_and_pd(in, one));
                __m256d ri = _mm256_mul_pd(r, i);
                i = _mm256_add_pd(_mm256_add_pd(ri, ri), ci);
                r = _mm256_add_pd(_mm256_sub_pd(r2, i2), cr);
            }
            double v[4];
            _mm256_storeu_pd(v, n);
            sum += (uint64_t)(v[0] + v[1] + v[2] + v[3]);
        }
    return sum;
}

/* The x87: long double, what C compilers keep there. */
static uint64_t long_double(unsigned scale)
{
    long double sum = 0, power = 1, values[64];
    for (int i = 0; i < 64; i++) values[i] = 1 + i / 64.0L;
    for (unsigned k = 0; k < 60000 * scale; k++) {
        for (int i = 0; i < 64; i++) sum += values[i] * power;
        power = power * 0.9999L + 0.00005L;
        values[k & 63] = sum / (k + 1);
        if (sum > 1e9L) sum -= 1e9L;
    }
    return (uint64_t)(sum * 1000) ^ (uint64_t)(power * 1e15L);
}

/* MMX by hand: compilers have SSE2 do it. */
static uint64_t packed_mmx(unsigned scale)
{
    static uint8_t a[4096], b[4096];
    uint64_t seed = 7, total = 0;
    for (int i = 0; i < 4096; i++) { uint64_t r = next_random(&seed); a[i] = (uint8_t)r; b[i] = (uint8_t)(r >> 8); }
    for (unsigned k = 0; k < 5000 * scale; k++) {
        uint64_t sum;
        const uint8_t *from = a, *to = b, *end = a + sizeof a;
        __asm__ volatile("pxor %%mm1, %%mm1\n"
                         "1: movq (%1), %%mm0\n psadbw (%2), %%mm0\n paddd %%mm0, %%mm1\n add $8, %1\n add $8, %2\n cmp %3, %1\n jb 1b\n"
                         "movq %%mm1, %0\n emms" : "=r"(sum), "+r"(from), "+r"(to) : "r"(end) : "mm0", "mm1", "memory", "cc");
        total += sum;
        a[k & 4095] ^= 1;
    }
    return total;
}

const struct kernel float_kernels[] = {
    { "matrix-scalar", matrix_scalar }, { "matrix-sse2", matrix_sse2 }, { "matrix-avx2", matrix_avx2 }, { "nbody-scalar", nbody },
    { "nbody-avx2", nbody_avx2 }, { "mandelbrot-scalar", mandelbrot_scalar }, { "mandelbrot-sse2", mandelbrot_sse2 },
    { "mandelbrot-avx2", mandelbrot_avx2 }, { "long-double", long_double }, { "packed-mmx", packed_mmx }, { 0, 0 },
};
