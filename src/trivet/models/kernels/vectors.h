/* Vectors of one register, and rows of channels in blocks of them. */
#ifndef TRIVET_VECTORS_H
#define TRIVET_VECTORS_H

#include <stdlib.h>

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
