/* Rows of a map in the cache, padded, for depthwise convolutions to read.

   Channels come in blocks of one vector: rows are [blocks, width], so that every address of an inner loop is a constant
   away from one pointer; the last block is filled with zeros. */
#ifndef TRIVET_RINGS_H
#define TRIVET_RINGS_H

#include "maps.h"

enum { TILE = 4, CHUNK_ROWS = 16, MOST_K = 5, MOST_TAPS = 25 };

/* The sides of a convolution, in the order of Shape in depthwise.py. */
typedef struct {
    long n, h, w, c, oh, ow, k, stride, top, left;
} Shape;

/* `depth` rows, each with `left` zeros before and some after; row r lives in slot r mod depth. */
typedef struct {
    Vec *slots;
    long depth, left, width, blocks, next;
} Ring;

static inline long chunks_of(long rows) { return (rows + CHUNK_ROWS - 1) / CHUNK_ROWS; }

static inline Ring make_ring(long depth, long left, long width, long c)
{
    Ring ring = {.depth = depth, .left = left, .width = width, .blocks = blocks_of(c)};
    ring.slots = zeros(depth * width * ring.blocks);
    return ring;
}

static inline Ring ring_for_x(const Shape *s)
{
    const long read = (s->ow - 1) * s->stride + s->k, held = s->left + s->w;
    return make_ring(s->k, s->left, read > held ? read : held, s->c);
}

static inline Vec *ring_slot(const Ring *ring, long row)
{
    return ring->slots + (row + ring->depth) % ring->depth * ring->width * ring->blocks;
}

INLINE void enter(int kind, float slope, int normed, const float *in, Vec *out, long w, long c, long lanes, Vec mean,
                  Vec scale, Vec shift)
{
    for (long x = 0; x < w; x++, in += c) {
        Vec v = load(in, lanes);
        if (normed) {
            v = (v - mean) * scale + shift;
            SIMD for (int i = 0; i < LANES; i++) v[i] = activate(kind, slope, v[i]);
        }
        out[x] = v;
    }
}

/* Block `b` of one row of a map as its reader sees it. */
static inline void enter_map(const Map *m, const float *in, Vec *out, long w, long b)
{
    const long c = m->channels, lanes = lanes_of(c, b), at = b * LANES;
    const Vec none = {0};
    if (!m->mean) {
        if (lanes == LANES) enter(NONE, 0, 0, in, out, w, c, LANES, none, none, none);
        else enter(NONE, 0, 0, in, out, w, c, lanes, none, none, none);
        return;
    }
    /* Lanes past the last channel: whatever activation(0) is, no result is taken from them. */
    const Vec mean = load(m->mean + at, lanes), scale = load(m->scale + at, lanes), shift = load(m->shift + at, lanes);
#define CASE(KIND) enter(KIND, m->slope, 1, in, out, w, c, lanes, mean, scale, shift)
    FOR_KIND(m->kind, CASE)
#undef CASE
}

/* How a gradient is read, see Gradient: as it is, through a norm, or through a gate, an activation and a norm. */
enum { AS_IT_IS, NORMED, GATED };

typedef struct {
    Vec mean, scale, shift, offset, tilt, gate, pooled;
} Block;

INLINE void enter_slopes(int how, int kind, float slope, const float *in, const float *d, Vec *out, long w, long c,
                         long lanes, const Block *of)
{
    const Vec mean = of->mean, scale = of->scale, shift = of->shift, offset = of->offset, tilt = of->tilt;
    const Vec gate = of->gate, pooled = of->pooled;
    for (long x = 0; x < w; x++, in += c, d += c) {
        Vec g = load(d, lanes);
        if (how != AS_IT_IS) {
            const Vec apart = load(in, lanes) - mean;
            if (how == GATED) {
                Vec z = apart * scale + shift;
                SIMD for (int i = 0; i < LANES; i++) z[i] = slope_at(kind, slope, z[i]);
                g = (g * gate + pooled) * z;
            }
            g = scale * g - offset - apart * tilt;
        }
        out[x] = g;
    }
}

/* Block `b` of one row, `at` floats from the start, of the gradient of a map. */
static inline void enter_gradient(const Map *m, const Gradient *g, long image, long at, Vec *out, long w, long b)
{
    const long c = m->channels, lanes = lanes_of(c, b), first = b * LANES;
    const float *in = m->map + at, *d = g->d + at;
    Block of = {{0}, {0}, {0}, {0}, {0}, {0}, {0}};
    if (!g->offset) {
        if (lanes == LANES) enter_slopes(AS_IT_IS, NONE, 0, in, d, out, w, c, LANES, &of);
        else enter_slopes(AS_IT_IS, NONE, 0, in, d, out, w, c, lanes, &of);
        return;
    }
    of.mean = load(m->mean + first, lanes), of.scale = load(m->scale + first, lanes);
    of.offset = load(g->offset + first, lanes), of.tilt = load(g->tilt + first, lanes);
    if (!g->pooled) {
        if (lanes == LANES) enter_slopes(NORMED, NONE, 0, in, d, out, w, c, LANES, &of);
        else enter_slopes(NORMED, NONE, 0, in, d, out, w, c, lanes, &of);
        return;
    }
    of.shift = load(m->shift + first, lanes), of.gate = load(m->gate + image * c + first, lanes);
    of.pooled = load(g->pooled + image * c + first, lanes);
#define CASE(KIND) enter_slopes(GATED, KIND, m->slope, in, d, out, w, c, lanes, &of)
    FOR_KIND(m->kind, CASE)
#undef CASE
}

/* Bring the next row of an image into the ring: of a map, or of its gradient where that is given; rows outside are 0. */
static inline void enter_row(Ring *ring, const Map *m, const Gradient *g, long image, long h, long w)
{
    const long row = ring->next++, at = (image * h + row) * w * m->channels;
    for (long b = 0; b < ring->blocks; b++) {
        Vec *out = ring_slot(ring, row) + b * ring->width + ring->left;
        if (row < 0 || row >= h) memset(out, 0, sizeof(Vec) * w);
        else if (g) enter_gradient(m, g, image, at + b * LANES, out, w, b);
        else enter_map(m, m->map + at + b * LANES, out, w, b);
    }
}

#endif
