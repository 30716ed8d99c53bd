/* Vectors of one register, and rows of channels in blocks of them. */
#ifndef TRIVET_VECTORS_H
#define TRIVET_VECTORS_H

#include <stdlib.h>
#ifdef __AVX512DQ__
#include <immintrin.h>
#endif

#include "parts.h"

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE long blocks_of(long c) { return (c + LANES - 1) / LANES; }
INLINE long lanes_of(long c, long block) { return c - block * LANES < LANES ? c - block * LANES : LANES; }

INLINE Vec load(const float *from, long lanes)
{
    if (lanes == LANES) return *(const Loose *)from;
    Vec v = {0};
    memcpy(&v, from, sizeof(float) * lanes);
    return v;
}

INLINE void store(float *to, Vec v, long lanes)
{
    if (lanes == LANES) *(Loose *)to = v;
    else memcpy(to, &v, sizeof(float) * lanes);
}

#ifdef __AVX512DQ__
/* z * sigmoid(z), as z / (1 + 2^t) with t = -z / ln 2: 2^t is 2^n * 2^r with |r| <= 1/2, and 2^r a polynomial fitted for
   the least relative error (2e-7 in float32). Powers beyond the numbers' range become 0 or infinite, as is right here. */
INLINE Vec silu(Vec z)
{
    const __m512 t = _mm512_mul_ps((__m512)z, _mm512_set1_ps(-1.44269504f)), r = _mm512_reduce_ps(t, 8);
    __m512 series = _mm512_set1_ps(0.0013264727f);
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.009671513f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.055507336f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.24022242f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(0.69314700f));
    series = _mm512_fmadd_ps(series, r, _mm512_set1_ps(1.0f));
    const __m512 power = _mm512_scalef_ps(series, _mm512_sub_ps(t, r));
    return (Vec)_mm512_div_ps((__m512)z, _mm512_add_ps(power, _mm512_set1_ps(1.0f)));
}
#endif

INLINE Vec activate_vector(int kind, float slope, Vec z)
{
#ifdef __AVX512DQ__
    if (kind == SILU) return silu(z);
#endif
    SIMD for (int i = 0; i < LANES; i++) z[i] = activate(kind, slope, z[i]);
    return z;
}

/* Room for `count` vectors that are yet to be written, or NULL without memory. */
static inline Vec *room(long count)
{
    return aligned_alloc(sizeof(Vec) < 64 ? 64 : sizeof(Vec), (sizeof(Vec) * count + 63) / 64 * 64);
}

/* `count` vectors of zeros, or NULL without memory. */
static inline Vec *zeros(long count)
{
    Vec *found = room(count);
    if (found) memset(found, 0, sizeof(Vec) * count);
    return found;
}

#endif
