/* Depthwise convolution, channels last, padded without a padded copy: x [n, h, w, c], y [n, oh, ow, c].

   The work is divided into chunks of rows of one image. A chunk keeps the k rows of x that a row of y needs in a ring of
   padded rows, which stays in the cache; a batch norm and activation before the convolution are applied as a row enters
   the ring, so that their result is never stored. The gradient of x is a convolution with the kernel turned round, of
   stride 1; where the stride is 2, one such convolution for the even and one for the odd pixels, rows alike.

   Inside, channels come in blocks of one vector: rows of the ring are [blocks, width], weights [blocks, taps], so that
   every address of an inner loop is a constant away from one pointer; the last block is filled with zeros. Sums are
   combined in the chunks' order: the number of threads changes nothing. */
#include <stdlib.h>

#include "parts.h"

#ifdef __AVX512F__
enum { LANES = 16 };
#else
enum { LANES = 8 };
#endif
typedef float Vec __attribute__((vector_size(4 * LANES)));
typedef float Loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

enum { TILE = 4, CHUNK_ROWS = 16, MOST_K = 5, MOST_TAPS = 25, PLAIN = -1 };

typedef struct {
    long n, h, w, c, oh, ow, k, stride, top, left;
} Shape;

/* A map whose rows are read, and the norm and activation they go through (kind PLAIN: none). */
typedef struct {
    const float *map;
    long h, w, c;
    int kind;
    float slope;
    const float *mean, *scale, *shift;
} Source;

/* `depth` rows, each with `left` zeros before and some after; row r lives in slot r mod depth. */
typedef struct {
    Vec *slots;
    long depth, left, width, blocks, next;
} Ring;

static long chunks_of(long rows) { return (rows + CHUNK_ROWS - 1) / CHUNK_ROWS; }
static long blocks_of(long c) { return (c + LANES - 1) / LANES; }
static long lanes_of(long c, long block) { return c - block * LANES < LANES ? c - block * LANES : LANES; }

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

static Vec *zeros(long count)
{
    Vec *found = aligned_alloc(sizeof(Vec) < 64 ? 64 : sizeof(Vec), (sizeof(Vec) * count + 63) / 64 * 64);
    if (found) memset(found, 0, sizeof(Vec) * count);
    return found;
}

static Ring make_ring(long depth, long left, long width, long c)
{
    Ring ring = {.depth = depth, .left = left, .width = width, .blocks = blocks_of(c)};
    ring.slots = zeros(depth * width * ring.blocks);
    return ring;
}

static Vec *ring_slot(const Ring *ring, long row)
{
    return ring->slots + (row + ring->depth) % ring->depth * ring->width * ring->blocks;
}

INLINE void enter(int kind, float slope, const float *in, Vec *out, long w, long c, long lanes, Vec mean, Vec scale,
                  Vec shift)
{
    for (long x = 0; x < w; x++, in += c) {
        Vec v = load(in, lanes);
        if (kind != PLAIN) {
            v = (v - mean) * scale + shift;
            SIMD for (int i = 0; i < LANES; i++) v[i] = activate(kind, slope, v[i]);
        }
        out[x] = v;
    }
}

/* Bring the rows up to `last` of an image into the ring; those outside the map are zero. */
static void fill_ring(Ring *ring, const Source *from, long image, long last)
{
    const long c = from->c, w = from->w;
    for (; ring->next <= last; ring->next++) {
        const long row = ring->next;
        for (long b = 0; b < ring->blocks; b++) {
            const long lanes = lanes_of(c, b), at = b * LANES;
            Vec *out = ring_slot(ring, row) + b * ring->width + ring->left, none = {0};
            const float *in = from->map + (image * from->h + row) * w * c + at;
            if (row < 0 || row >= from->h) {
                memset(out, 0, sizeof(Vec) * w);
            } else if (from->kind == PLAIN) {
                if (lanes == LANES) enter(PLAIN, 0, in, out, w, c, LANES, none, none, none);
                else enter(PLAIN, 0, in, out, w, c, lanes, none, none, none);
            } else {
                /* Lanes past the last channel: whatever activation(0) is, no result is taken from them. */
                const Vec mean = load(from->mean + at, lanes), scale = load(from->scale + at, lanes);
                const Vec shift = load(from->shift + at, lanes);
#define CASE(KIND) enter(KIND, from->slope, in, out, w, c, lanes, mean, scale, shift)
                FOR_KIND(from->kind, CASE)
#undef CASE
            }
        }
    }
}

/* [c, k, k] -> [blocks, taps] for the taps ky = last_y, last_y - step ... and kx likewise. */
static void turn_weight(const float *weight, Vec *turned, long k, long c, long first_y, long first_x, long step)
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
static void convolve_row(long ky, long kx, long stride, const Vec *const *rows, long width, const Vec *weight, float *y,
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

/* sum[tap] += y's gradient * what the tap read, over one row; pixels in pairs, for two chains of sums a tap. */
INLINE void correlate(const int K, const int S, const Vec *const *rows, const float *dy, Vec *sum, long count, long c,
                      long lanes)
{
    for (int ky = 0; ky < K; ky++) {
        const Vec *in = rows[ky];
        Vec even[MOST_K] = {{0}}, odd[MOST_K] = {{0}};
        long x = 0;
        for (; x + 2 <= count; x += 2, in += 2 * S) {
            const Vec d0 = load(dy + x * c, lanes), d1 = load(dy + (x + 1) * c, lanes);
#pragma GCC unroll 5
            for (int kx = 0; kx < K; kx++) even[kx] += d0 * in[kx], odd[kx] += d1 * in[S + kx];
        }
        if (x < count) {
            const Vec d = load(dy + x * c, lanes);
#pragma GCC unroll 5
            for (int kx = 0; kx < K; kx++) even[kx] += d * in[kx];
        }
#pragma GCC unroll 5
        for (int kx = 0; kx < K; kx++) sum[ky * K + kx] += even[kx] + odd[kx];
    }
}

static void correlate_row(long k, long stride, const Vec *const *rows, long width, const float *dy, Vec *sum, long count,
                          long c)
{
    for (long b = 0; b < blocks_of(c); b++) {
        const Vec *here[MOST_K];
        const float *up = dy + b * LANES;
        const long lanes = lanes_of(c, b);
        Vec *mine = sum + b * k * k;
        for (long a = 0; a < k; a++) here[a] = rows[a] + b * width;
#define CASE(K, S)                                                                                                   \
    case 10 * K + S:                                                                                                 \
        if (lanes == LANES) correlate(K, S, here, up, mine, count, c, LANES);                                        \
        else correlate(K, S, here, up, mine, count, c, lanes);                                                       \
        break;
        switch (10 * k + stride) { CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) }
#undef CASE
    }
}

/* Output rows [from, to) of one image: y where it is wanted, and the weight's gradient where that is. */
static void forward_rows(const Shape *s, const Source *x, Ring *ring, long image, long from, long to, const Vec *turned,
                         float *y, const float *dy, Vec *dweight)
{
    ring->next = from * s->stride - s->top;
    for (long oy = from; oy < to; oy++) {
        const long first = oy * s->stride - s->top, at = (image * s->oh + oy) * s->ow * s->c;
        const Vec *rows[MOST_K];
        fill_ring(ring, x, image, first + s->k - 1);
        for (long ky = 0; ky < s->k; ky++) rows[ky] = ring_slot(ring, first + ky);
        if (y) convolve_row(s->k, s->k, s->stride, rows, ring->width, turned, y + at, s->ow, s->c, s->c);
        if (dweight) correlate_row(s->k, s->stride, rows, ring->width, dy + at, dweight, s->ow, s->c);
    }
}

static Ring ring_for_x(const Shape *s)
{
    const long read = (s->ow - 1) * s->stride + s->k, held = s->left + s->w;
    return make_ring(s->k, s->left, read > held ? read : held, s->c);
}

static Source source_of(const Shape *s, const float *x, int kind, float slope, const float *kept, const float *bias)
{
    return (Source){x, s->h, s->w, s->c, kind, slope, kept, kept ? kept + s->c : NULL, bias};
}

/* y, from x as it is (kind -1) or normalised by `kept` and `bias` of trivet_batch_norm and activated.
   Returns 0, or 1 without memory. */
int trivet_depthwise(const long *shape, const float *x, const float *weight, float *y, int kind, float slope,
                     const float *kept, const float *bias, int threads)
{
    Shape s;
    memcpy(&s, shape, sizeof s);
    const long chunks = chunks_of(s.oh);
    const Source source = source_of(&s, x, kind, slope, kept, bias);
    int failed = 0;
    Vec *turned = zeros(blocks_of(s.c) * s.k * s.k);
    if (!turned) return 1;
    turn_weight(weight, turned, s.k, s.c, 0, 0, 1);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Ring ring = ring_for_x(&s);
        failed |= !ring.slots;
#pragma omp for schedule(static)
        for (long b = 0; b < s.n * chunks; b++)
            if (ring.slots)
                forward_rows(&s, &source, &ring, b / chunks, block_start(b % chunks, chunks, s.oh),
                             block_start(b % chunks + 1, chunks, s.oh), turned, y, NULL, NULL);
        free(ring.slots);
    }
    return free(turned), failed;
}

INLINE void slope_row(int kind, float slope, const float *restrict x, float *restrict dx, long w, long c,
                      const float *restrict mean, const float *restrict scale, const float *restrict shift,
                      float *restrict sum, float *restrict product)
{
    for (long p = 0; p < w; p++, x += c, dx += c)
        SIMD for (long i = 0; i < c; i++) {
            const float apart = x[i] - mean[i];
            const float g = dx[i] * slope_at(kind, slope, apart * scale[i] + shift[i]);
            dx[i] = g;
            sum[i] += g;
            product[i] += g * apart;
        }
}

/* Turn a row of the gradient of what the convolution read into that before the activation, and add to the norm's sums:
   sums[2, c] += g, g * (x - mean). */
static void through_activation(const Source *x, long at, float *dx, float *sums)
{
#define CASE(KIND)                                                                                                   \
    slope_row(KIND, x->slope, x->map + at, dx + at, x->w, x->c, x->mean, x->scale, x->shift, sums, sums + x->c)
    FOR_KIND(x->kind, CASE)
#undef CASE
}

/* How many taps meet pixels of one parity: ky = parity, parity + stride, ... */
static long taps_of(long k, long stride, long parity) { return (k - parity + stride - 1) / stride; }

/* Rows [from, to) of x's gradient in one image; `turned` holds the turned kernel of each parity of row and column. */
static void backward_rows(const Shape *s, const Source *dy, const Source *x, Ring *ring, long image, long from, long to,
                          const Vec *turned, float *dx, float *sums)
{
    const long size = blocks_of(s->c) * s->k * s->k, stride = s->stride;
    ring->next = (from + s->top) / stride - s->k + 1; /* rows before are not read */
    for (long iy = from; iy < to; iy++) {
        const long py = (iy + s->top) % stride, tall = taps_of(s->k, stride, py);
        const long last = (iy + s->top) / stride, at = (image * s->h + iy) * s->w * s->c;
        const Vec *rows[MOST_K];
        fill_ring(ring, dy, image, last);
        for (long px = 0; px < stride; px++) {
            const long wide = taps_of(s->k, stride, px), x0 = (px + s->left) % stride;
            const long column = (x0 + s->left) / stride - (wide - 1) + ring->left;
            if (x0 >= s->w) continue;
            for (long a = 0; a < tall; a++) rows[a] = ring_slot(ring, last - tall + 1 + a) + column;
            convolve_row(tall, wide, 1, rows, ring->width, turned + (py * stride + px) * size, dx + at + x0 * s->c,
                         (s->w - x0 + stride - 1) / stride, stride * s->c, s->c);
        }
        if (x->kind != PLAIN) through_activation(x, at, dx, sums);
    }
}

static Ring ring_for_dy(const Shape *s)
{
    const long before = s->k - 1, after = (s->w + s->left) / s->stride + 1;
    return make_ring(s->k, before, before + (after > s->ow ? after : s->ow), s->c);
}

/* Combine the chunks' sums in their order. */
static void add_up(const float *parts, long count, long part, const Shape *s, float *dweight, double *sums)
{
    const long taps = s->k * s->k, blocks = blocks_of(s->c) * LANES;
    for (long i = 0; i < taps * blocks + 2 * s->c; i++) {
        const long lane = i % LANES, tap = i / LANES % taps, channel = i / LANES / taps * LANES + lane;
        double total = 0;
        for (long b = 0; b < count; b++) total += (double)parts[b * part + i];
        if (i >= taps * blocks) {
            if (sums) sums[i - taps * blocks] = total;
        } else if (dweight && channel < s->c) {
            dweight[channel * taps + tap] = (float)total;
        }
    }
}

/* The gradients of trivet_depthwise: dx (of what comes before the activation, if there is one, and then sums[2, c] of
   it and of it times (x - mean)) and dweight; either may be NULL. Returns 0, or 1 without memory. */
int trivet_depthwise_backward(const long *shape, const float *x, const float *weight, const float *dy, float *dx,
                              float *dweight, int kind, float slope, const float *kept, const float *bias,
                              double *sums, int threads)
{
    Shape s;
    memcpy(&s, shape, sizeof s);
    const long chunks = chunks_of(s.oh), count = s.n * chunks, vectors = blocks_of(s.c) * s.k * s.k;
    const long part = vectors + 2 * blocks_of(s.c);
    const Source source = source_of(&s, x, kind, slope, kept, bias);
    const Source up = {.map = dy, .h = s.oh, .w = s.ow, .c = s.c, .kind = PLAIN};
    int failed = 0;
    Vec *turned = zeros(s.stride * s.stride * vectors), *parts = zeros(count * part);
    if (!turned || !parts) return free(turned), free(parts), 1;
    for (long p = 0; p < s.stride * s.stride; p++) {
        const long py = p / s.stride, px = p % s.stride;
        turn_weight(weight, turned + p * vectors, s.k, s.c, py + s.stride * (taps_of(s.k, s.stride, py) - 1),
                    px + s.stride * (taps_of(s.k, s.stride, px) - 1), -s.stride);
    }
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Ring ring = ring_for_x(&s), ring_up = ring_for_dy(&s);
        failed |= !ring.slots || !ring_up.slots;
#pragma omp for schedule(static)
        for (long b = 0; b < count; b++) {
            const long image = b / chunks, chunk = b % chunks;
            Vec *mine = parts + b * part;
            if (!ring.slots || !ring_up.slots) continue;
            if (dx)
                backward_rows(&s, &up, &source, &ring_up, image, block_start(chunk, chunks, s.h),
                              block_start(chunk + 1, chunks, s.h), turned, dx, (float *)(mine + vectors));
            if (dweight)
                forward_rows(&s, &source, &ring, image, block_start(chunk, chunks, s.oh),
                             block_start(chunk + 1, chunks, s.oh), NULL, NULL, dy, mine);
        }
        free(ring.slots), free(ring_up.slots);
    }
    add_up((const float *)parts, count, part * LANES, &s, dweight, sums);
    return free(turned), free(parts), failed;
}
