/* The gradients of a depthwise convolution, see depthwise.c. */
#include "taps.h"

/* sum[tap] += y's gradient * what the tap read, over one row; pixels in pairs, for two chains of sums a tap. */
INLINE void correlate(const int K, const int S, const Vec *const *rows, const Vec *dy, Vec *sum, long count)
{
    for (int ky = 0; ky < K; ky++) {
        const Vec *in = rows[ky];
        Vec even[MOST_K] = {{0}}, odd[MOST_K] = {{0}};
        long x = 0;
        for (; x + 2 <= count; x += 2, in += 2 * S) {
            const Vec d0 = dy[x], d1 = dy[x + 1];
#pragma GCC unroll 5
            for (int kx = 0; kx < K; kx++) even[kx] += d0 * in[kx], odd[kx] += d1 * in[S + kx];
        }
        if (x < count) {
            const Vec d = dy[x];
#pragma GCC unroll 5
            for (int kx = 0; kx < K; kx++) even[kx] += d * in[kx];
        }
#pragma GCC unroll 5
        for (int kx = 0; kx < K; kx++) sum[ky * K + kx] += even[kx] + odd[kx];
    }
}

/* One row: rows[ky] is where the first tap of row ky reads in the first block, dy the row of the gradient. */
static void correlate_row(long k, long stride, const Vec *const *rows, long width, const Vec *dy, long dy_width, Vec *sum,
                          long count, long c)
{
    for (long b = 0; b < blocks_of(c); b++) {
        const Vec *here[MOST_K];
        for (long a = 0; a < k; a++) here[a] = rows[a] + b * width;
#define CASE(K, S)                                                                                                   \
    case 10 * K + S: correlate(K, S, here, dy + b * dy_width, sum + b * k * k, count); break;
        switch (10 * k + stride) { CASE(3, 1) CASE(3, 2) CASE(5, 1) CASE(5, 2) }
#undef CASE
    }
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
static void through_activation(const Map *x, long at, long w, float *dx, float *sums)
{
#define CASE(KIND)                                                                                                   \
    slope_row(KIND, x->slope, x->map + at, dx + at, w, x->channels, x->mean, x->scale, x->shift, sums,               \
              sums + x->channels)
    FOR_KIND(x->kind, CASE)
#undef CASE
}

/* How many taps meet pixels of one parity: ky = parity, parity + stride, ... */
static long taps_of(long k, long stride, long parity) { return (k - parity + stride - 1) / stride; }

/* Combine the chunks' sums in their order. */
static void add_up(const float *parts, long count, long part, const Shape *s, float *dweight, double *sums, int threads)
{
    const long taps = s->k * s->k, blocks = blocks_of(s->c);
#pragma omp parallel for schedule(static) num_threads(threads) if (count * part > WORTH_THREADS)
    for (long block = 0; block < (dweight ? blocks : 0); block++)
        for (long tap = 0; tap < taps; tap++) {
            double total[LANES] = {0};
            const float *from = parts + (block * taps + tap) * LANES;
            for (long b = 0; b < count; b++)
                SIMD for (int i = 0; i < LANES; i++) total[i] += (double)from[b * part + i];
            for (long i = 0; i < lanes_of(s->c, block); i++)
                dweight[(block * LANES + i) * taps + tap] = (float)total[i];
        }
    for (long i = 0; i < 2 * s->c && sums; i++) {
        double total = 0;
        for (long b = 0; b < count; b++) total += (double)parts[b * part + taps * blocks * LANES + i];
        sums[i] = total;
    }
}

static Ring ring_for_dy(const Shape *s)
{
    const long before = s->k - 1, after = (s->w + s->left) / s->stride + 1;
    return make_ring(s->k, before, before + (after > s->ow ? after : s->ow), s->c);
}

/* One thread's part of the work: what it reads, the rings it keeps, and where its sums go (NULL where not wanted). */
typedef struct {
    const Shape *s;
    const Map *x, *y;
    const Gradient *dy;
    Ring ring, ring_up;
    const Vec *turned; /* the turned kernel of each parity of row and column */
    float *dx;
    Vec *dweight;
    float *sums;
    long image, from, to; /* rows of y whose part of the weight's gradient is taken here */
} Work;

/* Bring rows of y's gradient up to `last` into their ring; each that is ours meets the rows of x it came from. */
static void fill_up(Work *work, long last)
{
    const Shape *s = work->s;
    while (work->ring_up.next <= last) {
        const long oy = work->ring_up.next, first = oy * s->stride - s->top;
        const Vec *rows[MOST_K];
        enter_row(&work->ring_up, work->y, work->dy, work->image, s->oh, s->ow);
        if (!work->dweight || oy < work->from || oy >= work->to) continue;
        while (work->ring.next < first + s->k) enter_row(&work->ring, work->x, NULL, work->image, s->h, s->w);
        for (long ky = 0; ky < s->k; ky++) rows[ky] = ring_slot(&work->ring, first + ky);
        correlate_row(s->k, s->stride, rows, work->ring.width, ring_slot(&work->ring_up, oy) + work->ring_up.left,
                      work->ring_up.width, work->dweight, s->ow, s->c);
    }
}

/* One row of x's gradient: pixels of each parity by the taps that meet them. */
static void backward_row(Work *work, long iy)
{
    const Shape *s = work->s;
    const Ring *up = &work->ring_up;
    const long size = blocks_of(s->c) * s->k * s->k, stride = s->stride;
    const long py = (iy + s->top) % stride, tall = taps_of(s->k, stride, py), last = (iy + s->top) / stride;
    const long at = (work->image * s->h + iy) * s->w * s->c;
    const Vec *rows[MOST_K];
    fill_up(work, last);
    for (long px = 0; px < stride; px++) {
        const long wide = taps_of(s->k, stride, px), x0 = (px + s->left) % stride;
        const long column = (x0 + s->left) / stride - (wide - 1) + up->left;
        if (x0 >= s->w) continue;
        for (long a = 0; a < tall; a++) rows[a] = ring_slot(up, last - tall + 1 + a) + column;
        convolve_row(tall, wide, 1, rows, up->width, work->turned + (py * stride + px) * size,
                     work->dx + at + x0 * s->c, (s->w - x0 + stride - 1) / stride, stride * s->c, s->c);
    }
    if (work->x->mean) through_activation(work->x, at, s->w, work->dx, work->sums);
}

/* Chunk `chunk` of `chunks` of one image: rows [from, to) of x's gradient and those of y alike. */
static void backward_chunk(Work *work, long chunk, long chunks)
{
    const Shape *s = work->s;
    const long from = block_start(chunk, chunks, s->h), to = block_start(chunk + 1, chunks, s->h);
    const long first = (from + s->top) / s->stride - s->k + 1; /* rows before are not read */
    work->from = block_start(chunk, chunks, s->oh), work->to = block_start(chunk + 1, chunks, s->oh);
    work->ring.next = work->from * s->stride - s->top;
    work->ring_up.next = work->dx && first < work->from ? first : work->from;
    for (long iy = from; iy < to && work->dx; iy++) backward_row(work, iy);
    if (work->dweight) fill_up(work, work->to - 1);
}

/* The gradients of trivet_depthwise from that of y: dx (of what comes before the activation where x has a norm, and then
   sums[2, c] of it and of it times (x - mean)) and dweight; either may be NULL. Returns 0, or 1 without memory. */
int trivet_depthwise_backward(const long *shape, const Map *x, const float *weight, const Map *y, const Gradient *dy,
                              float *dx, float *dweight, double *sums, int threads)
{
    Shape s;
    memcpy(&s, shape, sizeof s);
    const long chunks = chunks_of(s.oh), count = s.n * chunks, vectors = blocks_of(s.c) * s.k * s.k;
    const long part = vectors + 2 * blocks_of(s.c);
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
        Work work = {.s = &s, .x = x, .y = y, .dy = dy, .turned = turned, .dx = dx};
        work.ring = ring_for_x(&s), work.ring_up = ring_for_dy(&s);
        failed |= !work.ring.slots || !work.ring_up.slots;
#pragma omp for schedule(static)
        for (long b = 0; b < count; b++) {
            work.image = b / chunks, work.dweight = dweight ? parts + b * part : NULL;
            work.sums = (float *)(parts + b * part + vectors);
            if (work.ring.slots && work.ring_up.slots) backward_chunk(&work, b % chunks, chunks);
        }
        free(work.ring.slots), free(work.ring_up.slots);
    }
    add_up((const float *)parts, count, part * LANES, &s, dweight, x->mean ? sums : NULL, threads);
    return free(turned), free(parts), failed;
}
