/* Pixels of 0-255 as a network takes them. */
#include "parts.h"

/* y[rows, values] = (x - mean) / std, where mean and std are those of each value of a row. */
int trivet_normalise(const unsigned char *x, const float *mean, const float *std, float *y, long rows, long values,
                     int threads)
{
#pragma omp parallel for schedule(static) num_threads(threads) if (rows * values > WORTH_THREADS)
    for (long row = 0; row < rows; row++) {
        const unsigned char *restrict in = x + row * values;
        float *restrict to = y + row * values;
        SIMD for (long i = 0; i < values; i++) to[i] = ((float)in[i] - mean[i]) / std[i];
    }
    return 0;
}
