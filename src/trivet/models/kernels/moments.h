/* Mean and variance of each channel over rows, in one reading, slice by slice. */
#ifndef TRIVET_MOMENTS_H
#define TRIVET_MOMENTS_H

#include "parts.h"

/* Add `count` rows to the mean and the sum of squared deviations of `seen` rows before (Chan, Golub and LeVeque 1983: no
   cancellation however far the mean is from 0). The rows are read twice and should lie in the cache. */
static inline void add_moments(const float *restrict x, long count, long channels, long seen, double *restrict mean,
                               double *restrict m2, float *restrict sum, float *restrict centre)
{
    const double share = (double)count / (double)(seen + count);
    for (long c = 0; c < channels; c++) sum[c] = 0;
    for (long row = 0; row < count; row++) {
        const float *restrict in = x + row * channels;
        SIMD for (long c = 0; c < channels; c++) sum[c] += in[c];
    }
    for (long c = 0; c < channels; c++) centre[c] = sum[c] / (float)count, sum[c] = 0;
    for (long row = 0; row < count; row++) {
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
}

/* Combine what parts have seen, counts[b] rows each, in their order: part[b] holds mean[channels] and m2[channels];
   the result is the mean and the biased variance in `moments`. */
static inline void join_moments(const double *part, const long *counts, long parts, long channels, double *moments)
{
    double *restrict mean = moments, *restrict m2 = moments + channels;
    long seen = 0;
    memset(moments, 0, sizeof(double) * 2 * channels);
    for (long b = 0; b < parts; b++) {
        if (!counts[b]) continue;
        const double share = (double)counts[b] / (double)(seen + counts[b]);
        const double *restrict its = part + 2 * b * channels, *restrict its_m2 = its + channels;
        for (long c = 0; c < channels; c++) {
            const double step = its[c] - mean[c];
            m2[c] += its_m2[c] + step * step * (double)seen * share;
            mean[c] += step * share;
        }
        seen += counts[b];
    }
    for (long c = 0; c < channels; c++) m2[c] /= (double)seen;
}

#endif
