/* What the kernels share: activations, and the division of rows into blocks. */
#ifndef TRIVET_PARTS_H
#define TRIVET_PARTS_H

#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define SIMD _Pragma("omp simd")

enum { WORTH_THREADS = 16384 }; /* so many numbers to move, and it is worth waking other threads */

/* The numbers are those of ACTIVATIONS in activations.py. */
enum { NONE, RELU, RELU6, LEAKY, HARD_SWISH, SILU };

/* One specialised loop a kind: `kind` is a constant inside CASE. */
#define FOR_KIND(kind, CASE)                                                                                         \
    switch (kind) {                                                                                                  \
    case RELU: CASE(RELU); break;                                                                                    \
    case RELU6: CASE(RELU6); break;                                                                                  \
    case LEAKY: CASE(LEAKY); break;                                                                                  \
    case HARD_SWISH: CASE(HARD_SWISH); break;                                                                        \
    case SILU: CASE(SILU); break;                                                                                    \
    default: CASE(NONE); break;                                                                                      \
    }

INLINE float at_least(float x, float low) { return x < low ? low : x; } /* keeps nan */
INLINE float at_most(float x, float high) { return x > high ? high : x; }

/* exp(x) to 2 units in the last place: 2^n * e^r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 p(r), where p, of degree 4,
   was fitted for the least relative error (3e-9). */
INLINE float exponential(float x)
{
    x = at_most(at_least(x, -87.0f), 88.0f);
    const float shifted = x * 1.44269504f + 12582912.0f; /* 1.5 * 2^23: the low bits are now round(x / ln 2) */
    const float n = shifted - 12582912.0f;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float series = 0.00138145f;
    series = series * r + 0.00836875f;
    series = series * r + 0.04166839f;
    series = series * r + 0.1666652f;
    series = series * r + 0.49999993f;
    series = series * r + 1.0f;
    series = series * r + 1.0f;
    int bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (int)((unsigned)bits << 23) + 0x3f800000;
    float power;
    memcpy(&power, &bits, sizeof power);
    return series * power;
}

INLINE float sigmoid(float z) { return 1.0f / (1.0f + exponential(-z)); }

INLINE float activate(int kind, float slope, float z)
{
    switch (kind) {
    case RELU: return at_least(z, 0);
    case RELU6: return at_most(at_least(z, 0), 6);
    case LEAKY: return z > 0 ? z : z * slope;
    case HARD_SWISH: return z * at_most(at_least(z + 3, 0), 6) * (1.0f / 6);
    case SILU: return z * sigmoid(z);
    default: return z;
    }
}

/* The derivative of `activate`, at a kink what PyTorch takes for it. */
INLINE float slope_at(int kind, float slope, float z)
{
    switch (kind) {
    case RELU: return z > 0 ? 1.0f : 0.0f;
    case RELU6: return (z > 0) & (z < 6) ? 1.0f : 0.0f;
    case LEAKY: return z > 0 ? 1.0f : slope;
    case HARD_SWISH: return z <= -3 ? 0.0f : z >= 3 ? 1.0f : z * (1.0f / 3) + 0.5f;
    case SILU: {
        const float s = sigmoid(z);
        return s * (1 + z * (1 - s));
    }
    default: return 1.0f;
    }
}

INLINE long block_count(long rows, long most) { return rows < most ? rows : most; }
INLINE long block_start(long block, long blocks, long rows) { return rows * block / blocks; }

#endif
