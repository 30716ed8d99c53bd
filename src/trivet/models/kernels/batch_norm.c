/* Training-mode batch norm and the activation after it, channels last: x is [rows, channels].

   Sums are taken over fixed blocks of rows and combined in the blocks' order, so that the result does not depend on
   the number of threads. The gradient of the activation is computed again from x: nothing but x is kept. */
#include <math.h>
#include <stdlib.h>

#include "parts.h"

enum { BLOCKS = 64 };

/* Mean and sum of squared deviations of rows [from, to), a slice that stays in the cache at a time (Chan, Golub and
   LeVeque 1983: no cancellation however far the mean is from 0). */
static void block_moments(const float *restrict x, long from, long to, long channels, double *restrict mean,
                          double *restrict m2, float *restrict sum, float *restrict centre)
{
    const long slice = 4096 / channels > 8 ? 4096 / channels : 8;
    long seen = 0;
    for (long c = 0; c < channels; c++) mean[c] = m2[c] = 0;
    for (long begin = from; begin < to; begin += slice) {
        const long end = begin + slice < to ? begin + slice : to, count = end - begin;
        const double share = (double)count / (double)(seen + count);
        for (long c = 0; c < channels; c++) sum[c] = 0;
        for (long row = begin; row < end; row++) {
            const float *restrict in = x + row * channels;
            SIMD for (long c = 0; c < channels; c++) sum[c] += in[c];
        }
        for (long c = 0; c < channels; c++) centre[c] = sum[c] / (float)count, sum[c] = 0;
        for (long row = begin; row < end; row++) {
            const float *restrict in = x + row * channels;
            SIMD for (long c = 0; c < channels; c++) {
                const float apart = in[c] - centre[c];
                sum[c] += apart * apart;
            }
        }
        SIMD for (long c = 0; c < channels; c++) {
            const double step = (double)centre[c] - mean[c];
            m2[c] += (double)sum[c] + step * step * (double)seen * share;
            mean[c] += step * share;
        }
        seen += count;
    }
}

/* mean[c] and the biased variance var[c] of x over its rows; returns 0, or 1 without memory. */
static int moments(const float *x, long rows, long channels, double *mean, double *var, int threads)
{
    const long blocks = block_count(rows, BLOCKS);
    double *part = malloc(sizeof(double) * 2 * blocks * channels);
    float *scratch = malloc(sizeof(float) * 2 * blocks * channels);
    if (!part || !scratch) return free(part), free(scratch), 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++)
        block_moments(x, block_start(b, blocks, rows), block_start(b + 1, blocks, rows), channels,
                      part + 2 * b * channels, part + (2 * b + 1) * channels, scratch + 2 * b * channels,
                      scratch + (2 * b + 1) * channels);
    double *restrict whole = part, *restrict whole_m2 = part + channels;
    for (long b = 1, seen = block_start(1, blocks, rows); b < blocks; b++) {
        const long count = block_start(b + 1, blocks, rows) - block_start(b, blocks, rows);
        const double share = (double)count / (double)(seen + count);
        const double *restrict its = part + 2 * b * channels, *restrict its_m2 = its + channels;
        for (long c = 0; c < channels; c++) {
            const double step = its[c] - whole[c];
            whole_m2[c] += its_m2[c] + step * step * (double)seen * share;
            whole[c] += step * share;
        }
        seen += count;
    }
    for (long c = 0; c < channels; c++) mean[c] = whole[c], var[c] = whole_m2[c] / (double)rows;
    return free(part), free(scratch), 0;
}

INLINE void normalise_rows(int kind, float slope, const float *restrict x, float *restrict y, long from, long to,
                           long channels, const float *restrict mean, const float *restrict scale,
                           const float *restrict shift)
{
    for (long row = from; row < to; row++) {
        const float *restrict in = x + row * channels;
        float *restrict out = y + row * channels;
        SIMD for (long c = 0; c < channels; c++)
            out[c] = activate(kind, slope, (in[c] - mean[c]) * scale[c] + shift[c]);
    }
}

static void normalise(int kind, float slope, const float *x, float *y, long rows, long channels, const float *mean,
                      const float *scale, const float *shift, int threads)
{
    const long blocks = block_count(rows, BLOCKS);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
#define CASE(KIND) normalise_rows(KIND, slope, x, y, from, to, channels, mean, scale, shift)
        FOR_KIND(kind, CASE)
#undef CASE
    }
}

INLINE void gradient_sums(int kind, float slope, const float *restrict x, const float *restrict dy, long from, long to,
                          long channels, const float *restrict mean, const float *restrict scale,
                          const float *restrict shift, float *restrict sum, float *restrict product,
                          double *restrict dshift, double *restrict dscale)
{
    const long slice = 4096 / channels > 8 ? 4096 / channels : 8;
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

/* With g the gradient before the activation: dshift[c] = sum of g, dscale[c] = sum of g * (x - mean). */
static int sum_gradients(int kind, float slope, const float *x, const float *dy, long rows, long channels,
                          const float *mean, const float *scale, const float *shift, double *dshift, double *dscale,
                         int threads)
{
    const long blocks = block_count(rows, BLOCKS);
    double *part = malloc(sizeof(double) * 2 * blocks * channels);
    float *scratch = malloc(sizeof(float) * 2 * blocks * channels);
    if (!part || !scratch) return free(part), free(scratch), 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
        double *mine = part + 2 * b * channels;
        float *sums = scratch + 2 * b * channels;
#define CASE(KIND)                                                                                                   \
    gradient_sums(KIND, slope, x, dy, from, to, channels, mean, scale, shift, sums, sums + channels, mine,           \
                  mine + channels)
        FOR_KIND(kind, CASE)
#undef CASE
    }
    for (long b = 1; b < blocks; b++)
        for (long c = 0; c < 2 * channels; c++) part[c] += part[2 * b * channels + c];
    for (long c = 0; c < channels; c++) dshift[c] = part[c], dscale[c] = part[channels + c];
    return free(part), free(scratch), 0;
}

/* dx = scale * g - offset - (x - mean) * tilt, where g is the gradient before the activation. */
INLINE void gradient_rows(int kind, float slope, const float *restrict x, const float *dy, float *dx,
                          long from, long to, long channels, const float *restrict mean, const float *restrict scale,
                          const float *restrict shift, const float *restrict offset, const float *restrict tilt)
{
    for (long row = from; row < to; row++) {
        const float *restrict in = x + row * channels, *up = dy + row * channels;
        float *out = dx + row * channels; /* may be up */
        SIMD for (long c = 0; c < channels; c++) {
            const float apart = in[c] - mean[c];
            const float g = up[c] * slope_at(kind, slope, apart * scale[c] + shift[c]);
            out[c] = scale[c] * g - offset[c] - apart * tilt[c];
        }
    }
}

/* Normalise by the batch's own statistics, activate, and move the running statistics where there are any.

   y = activation((x - mean) * scale + shift), unless y is NULL, with scale = weight / sqrt(var + eps), shift = bias. For the
   backward pass, `kept` receives three rows of channels: mean, scale and inverse = 1 / sqrt(var + eps). Returns 0, or 1
   without memory. */
int trivet_batch_norm(int kind, float slope, const float *x, float *y, long rows, long channels, const float *weight,
                      const float *bias, double eps, double momentum, float *running_mean, float *running_var,
                      float *kept, int threads)
{
    float *mean = kept, *scale = kept + channels, *inverse = kept + 2 * channels;
    double *exact = malloc(sizeof(double) * 2 * channels);
    if (!exact || moments(x, rows, channels, exact, exact + channels, threads)) return free(exact), 1;
    for (long c = 0; c < channels; c++) {
        const double var = exact[channels + c];
        mean[c] = (float)exact[c];
        inverse[c] = (float)(1 / sqrt(var + eps));
        scale[c] = weight[c] * inverse[c];
        if (running_mean) running_mean[c] = (float)(momentum * exact[c] + (1 - momentum) * running_mean[c]);
        if (running_var) {
            const double unbiased = var * (double)rows / (double)(rows - 1);
            running_var[c] = (float)(momentum * unbiased + (1 - momentum) * running_var[c]);
        }
    }
    if (y) normalise(kind, slope, x, y, rows, channels, mean, scale, bias, threads);
    return free(exact), 0;
}

/* dx, dweight and dbias from the sums of the gradient g before the activation and of g * (x - mean); dx may be dy. */
static int finish(int kind, float slope, const float *x, const float *dy, float *dx, long rows, long channels,
                  const float *kept, const float *bias, const double *sums, float *dweight, float *dbias, int threads)
{
    const float *mean = kept, *scale = kept + channels, *inverse = kept + 2 * channels;
    const long blocks = block_count(rows, BLOCKS);
    float *offset = malloc(sizeof(float) * 2 * channels), *tilt = offset + channels;
    if (!offset) return 1;
    for (long c = 0; c < channels; c++) {
        dbias[c] = (float)sums[c];
        dweight[c] = (float)(sums[channels + c] * inverse[c]);
        offset[c] = (float)(scale[c] * sums[c] / (double)rows);
        tilt[c] = (float)((double)scale[c] * inverse[c] * inverse[c] * sums[channels + c] / (double)rows);
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        const long from = block_start(b, blocks, rows), to = block_start(b + 1, blocks, rows);
#define CASE(KIND) gradient_rows(KIND, slope, x, dy, dx, from, to, channels, mean, scale, bias, offset, tilt)
        FOR_KIND(kind, CASE)
#undef CASE
    }
    return free(offset), 0;
}

/* The gradients of trivet_batch_norm. Returns 0, or 1 without memory. */
int trivet_batch_norm_backward(int kind, float slope, const float *x, const float *dy, float *dx, long rows,
                               long channels, const float *kept, const float *bias, float *dweight, float *dbias,
                               int threads)
{
    double *sums = malloc(sizeof(double) * 2 * channels);
    const int failed =
        !sums ||
        sum_gradients(kind, slope, x, dy, rows, channels, kept, kept + channels, bias, sums, sums + channels, threads) ||
        finish(kind, slope, x, dy, dx, rows, channels, kept, bias, sums, dweight, dbias, threads);
    return free(sums), failed;
}

/* The same where the gradient before the activation is in dx and its sums are known: dx is changed in place. */
int trivet_batch_norm_finish(const float *x, float *dx, long rows, long channels, const float *kept, const float *bias,
                             const double *sums, float *dweight, float *dbias, int threads)
{
    return finish(NONE, 0, x, dx, dx, rows, channels, kept, bias, sums, dweight, dbias, threads);
}
