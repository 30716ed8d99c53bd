/* Training-mode batch norm and the activation after it, channels last: x is [rows, channels].

   Sums are taken over fixed blocks of rows and combined in the blocks' order, so that the result does not depend on
   the number of threads. The gradient of the activation is computed again from x: nothing but x is kept. */
#include <math.h>

#include "maps.h"
#include "moments.h"

enum { BLOCKS = 64 };

/* Rows at a time whose values stay in the cache. */
static long slice_rows(long channels) { return 4096 / channels > 8 ? 4096 / channels : 8; }

/* The mean and the biased variance of each channel of x: moments[2, channels]. Returns 0, or 1 without memory. */
int trivet_moments(const float *x, long rows, long channels, double *moments, int threads)
{
    const long blocks = block_count(rows, BLOCKS), slice = slice_rows(channels);
    double *part = calloc(2 * blocks * channels, sizeof(double));
    float *scratch = malloc(sizeof(float) * 2 * blocks * channels);
    long counts[BLOCKS];
    if (!part || !scratch) return free(part), free(scratch), 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
        double *mine = part + 2 * b * channels;
        float *sums = scratch + 2 * b * channels;
        counts[b] = to - from;
        for (long row = from; row < to; row += slice)
            add_moments(x + row * channels, to - row < slice ? to - row : slice, channels, row - from, mine,
                        mine + channels, sums, sums + channels);
    }
    join_moments(part, counts, blocks, channels, moments);
    return free(part), free(scratch), 0;
}

/* Settle what a norm does with a batch: kept[3, channels] = mean, scale = weight / sqrt(var + eps) and
   inverse = 1 / sqrt(var + eps); move the running statistics where there are any. */
int trivet_settle(const double *moments, long rows, long channels, const float *weight, double eps, double momentum,
                  float *running_mean, float *running_var, float *kept)
{
    for (long c = 0; c < channels; c++) {
        const double mean = moments[c], var = moments[channels + c], inverse = 1 / sqrt(var + eps);
        kept[c] = (float)mean;
        kept[2 * channels + c] = (float)inverse;
        kept[channels + c] = weight[c] * (float)inverse;
        if (running_mean) running_mean[c] = (float)(momentum * mean + (1 - momentum) * running_mean[c]);
        if (running_var) {
            const double unbiased = var * (double)rows / (double)(rows - 1);
            running_var[c] = (float)(momentum * unbiased + (1 - momentum) * running_var[c]);
        }
    }
    return 0;
}

/* y = x as its reader sees it, plus `add` if there is one. */
int trivet_apply(const Map *x, const float *add, float *y, long rows, int threads)
{
    const long channels = x->channels, blocks = block_count(rows, BLOCKS), slice = slice_rows(channels);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long end = block_start(b + 1, blocks, rows);
        for (long row = block_start(b, blocks, rows), count; row < end; row += count) {
            count = end - row < slice ? end - row : slice;
            if (x->gate && x->image_rows - row % x->image_rows < count) count = x->image_rows - row % x->image_rows;
            read_map(x, row, count, y + row * channels, channels);
            if (add)
                for (long i = row * channels; i < (row + count) * channels; i++) y[i] += add[i];
        }
    }
    return 0;
}

INLINE void pool_rows(int kind, const Map *x, long row, long count, float *sum)
{
    const long channels = x->channels;
    const float *restrict mean = x->mean, *restrict scale = x->scale, *restrict shift = x->shift;
    float *restrict to = sum;
    for (long r = 0; r < count; r++) {
        const float *restrict in = x->map + (row + r) * channels;
        SIMD for (long c = 0; c < channels; c++)
            to[c] += activate(kind, x->slope, (in[c] - mean[c]) * scale[c] + shift[c]);
    }
}

/* pooled[images, channels] = the mean over each image of x as its reader sees it (a norm, no gate). */
int trivet_pool(const Map *x, long images, float *pooled, int threads)
{
    enum { PIECES = 8 };
    const long channels = x->channels, slice = slice_rows(channels);
    double *part = calloc(images * PIECES * channels, sizeof(double));
    float *scratch = malloc(sizeof(float) * images * PIECES * channels);
    if (!part || !scratch) return free(part), free(scratch), 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < images * PIECES; b++) {
        const long first = b / PIECES * x->image_rows;
        const long end = first + block_start(b % PIECES + 1, PIECES, x->image_rows);
        float *sum = scratch + b * channels;
        for (long row = first + block_start(b % PIECES, PIECES, x->image_rows); row < end; row += slice) {
            memset(sum, 0, sizeof(float) * channels);
#define CASE(KIND) pool_rows(KIND, x, row, end - row < slice ? end - row : slice, sum)
            FOR_KIND(x->kind, CASE)
#undef CASE
            for (long c = 0; c < channels; c++) part[b * channels + c] += (double)sum[c];
        }
    }
    for (long i = 0; i < images * channels; i++) {
        double total = 0;
        for (long p = 0; p < PIECES; p++) total += part[(i / channels * PIECES + p) * channels + i % channels];
        pooled[i] = (float)(total / (double)x->image_rows);
    }
    return free(part), free(scratch), 0;
}

INLINE void gradient_sums(int kind, float slope, const float *restrict x, const float *restrict dy, long from, long to,
                          long channels, const float *restrict mean, const float *restrict scale,
                          const float *restrict shift, float *restrict sum, float *restrict product,
                          double *restrict dshift, double *restrict dscale)
{
    const long slice = slice_rows(channels);
    for (long c = 0; c < channels; c++) dshift[c] = dscale[c] = 0;
    for (long begin = from; begin < to; begin += slice) {
        const long end = begin + slice < to ? begin + slice : to;
        for (long c = 0; c < channels; c++) sum[c] = product[c] = 0;
        for (long row = begin; row < end; row++) {
            const float *restrict in = x + row * channels, *restrict up = dy + row * channels;
            SIMD for (long c = 0; c < channels; c++) {
                const float apart = in[c] - mean[c];
                const float g = up[c] * slope_at(kind, slope, apart * scale[c] + shift[c]);
                sum[c] += g;
                product[c] += g * apart;
            }
        }
        SIMD for (long c = 0; c < channels; c++) dshift[c] += (double)sum[c], dscale[c] += (double)product[c];
    }
}

/* The norm's sums of the gradient g before the activation: sums[2, channels] = sum of g, sum of g * (x - mean).
   Returns 0, or 1 without memory. */
int trivet_norm_sums(const Map *x, const float *dy, long rows, double *sums, int threads)
{
    const long channels = x->channels, blocks = block_count(rows, BLOCKS);
    double *part = malloc(sizeof(double) * 2 * blocks * channels);
    float *scratch = malloc(sizeof(float) * 2 * blocks * channels);
    if (!part || !scratch) return free(part), free(scratch), 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
        double *mine = part + 2 * b * channels;
        float *sum = scratch + 2 * b * channels;
#define CASE(KIND)                                                                                                   \
    gradient_sums(KIND, x->slope, x->map, dy, from, to, channels, x->mean, x->scale, x->shift, sum, sum + channels,  \
                  mine, mine + channels)
        FOR_KIND(x->kind, CASE)
#undef CASE
    }
    for (long b = 1; b < blocks; b++)
        for (long c = 0; c < 2 * channels; c++) part[c] += part[2 * b * channels + c];
    memcpy(sums, part, sizeof(double) * 2 * channels);
    return free(part), free(scratch), 0;
}

/* A norm's own gradients from its sums, and what the gradient of its map is made of: lines[2, channels] = offset, tilt
   (see Gradient). */
int trivet_norm_gradients(const float *kept, const double *sums, long rows, long channels, float *dweight, float *dbias,
                          float *lines)
{
    const float *scale = kept + channels, *inverse = kept + 2 * channels;
    for (long c = 0; c < channels; c++) {
        dbias[c] = (float)sums[c];
        dweight[c] = (float)(sums[channels + c] * inverse[c]);
        lines[c] = (float)(scale[c] * sums[c] / (double)rows);
        lines[channels + c] = (float)((double)scale[c] * inverse[c] * inverse[c] * sums[channels + c] / (double)rows);
    }
    return 0;
}

INLINE void gradient_rows(int kind, const Map *x, const Gradient *g, long from, long to, float *dx)
{
    const long channels = x->channels;
    const float *restrict mean = x->mean, *restrict scale = x->scale, *restrict shift = x->shift;
    const float *restrict offset = g->offset, *restrict tilt = g->tilt;
    for (long row = from; row < to; row++) {
        const float *restrict in = x->map + row * channels, *up = g->d + row * channels;
        float *out = dx + row * channels; /* may be up */
        SIMD for (long c = 0; c < channels; c++) {
            const float apart = in[c] - mean[c];
            const float d = up[c] * slope_at(kind, x->slope, apart * scale[c] + shift[c]);
            out[c] = scale[c] * d - offset[c] - apart * tilt[c];
        }
    }
}

/* dx, the gradient of a norm's map (no gate); `through` where g->d is that of what comes after the activation, else
   before it. dx may be g->d. */
int trivet_norm_backward(const Map *x, const Gradient *g, int through, long rows, float *dx, int threads)
{
    const long blocks = block_count(rows, BLOCKS);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
#define CASE(KIND) gradient_rows(KIND, x, g, from, to, dx)
        FOR_KIND(through ? x->kind : NONE, CASE)
#undef CASE
    }
    return 0;
}
