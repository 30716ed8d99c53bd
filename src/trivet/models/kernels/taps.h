/* Rows of a depthwise convolution. */
#ifndef TRIVET_TAPS_H
#define TRIVET_TAPS_H

#include "rings.h"

/* [c, k, k] -> [blocks, taps] for the taps ky = last_y, last_y - step ... and kx likewise. */
static inline void turn_weight(const float *weight, Vec *turned, long k, long c, long first_y, long first_x, long step)
{
    for (long b = 0; b < blocks_of(c); b++)
        for (long ky = first_y; 0 <= ky && ky < k; ky += step)
            for (long kx = first_x; 0 <= kx && kx < k; kx += step, turned++)
                for (long i = 0; i < lanes_of(c, b); i++)
                    (*turned)[i] = weight[((b * LANES + i) * k + ky) * k + kx];
}

/* `count` pixels, `step` floats apart, of a convolution by KY x KX taps of stride S; constants where this is inlined. */
INLINE void convolve(const int KY, const int KX, const int S, const Vec *const *rows, const Vec *weight, float *y,
                     long count, long step, long lanes)
{
    long x = 0;
    for (; x + TILE <= count; x += TILE, y += TILE * step) {
        Vec a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};
#pragma GCC unroll 5
        for (int ky = 0; ky < KY; ky++) {
            const Vec *in = rows[ky] + x * S;
#pragma GCC unroll 5
            for (int kx = 0; kx < KX; kx++) {
                const Vec v = weight[ky * KX + kx];
                a0 += v * in[kx];
                a1 += v * in[S + kx];
                a2 += v * in[2 * S + kx];
                a3 += v * in[3 * S + kx];
            }
        }
        store(y, a0, lanes), store(y + step, a1, lanes), store(y + 2 * step, a2, lanes), store(y + 3 * step, a3, lanes);
    }
    for (; x < count; x++, y += step) {
        Vec a = {0};
#pragma GCC unroll 5
        for (int ky = 0; ky < KY; ky++)
#pragma GCC unroll 5
            for (int kx = 0; kx < KX; kx++) a += weight[ky * KX + kx] * rows[ky][x * S + kx];
        store(y, a, lanes);
    }
}

/* One row of y, block by block; rows[ky] is where the first tap of row ky reads in the first block. */
static inline void convolve_row(long ky, long kx, long stride, const Vec *const *rows, long width, const Vec *weight, float *y,
                         long count, long step, long c)
{
    for (long b = 0; b < blocks_of(c); b++) {
        const Vec *here[MOST_K], *taps = weight + b * ky * kx;
        const long lanes = lanes_of(c, b);
        float *out = y + b * LANES;
        for (long a = 0; a < ky; a++) here[a] = rows[a] + b * width;
#define CASE(KY, KX, S)                                                                                              \
    case 100 * KY + 10 * KX + S:                                                                                     \
        if (lanes == LANES) convolve(KY, KX, S, here, taps, out, count, step, LANES);                                \
        else convolve(KY, KX, S, here, taps, out, count, step, lanes);                                               \
        break;
        switch (100 * ky + 10 * kx + stride) {
            CASE(3, 3, 1) CASE(5, 5, 1) CASE(3, 3, 2) CASE(5, 5, 2)
            CASE(1, 1, 1) CASE(1, 2, 1) CASE(2, 1, 1) CASE(2, 2, 1) CASE(2, 3, 1) CASE(3, 2, 1)
        }
#undef CASE
    }
}

#endif
