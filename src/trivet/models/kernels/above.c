/* Which of many numbers are above a threshold, in two passes that read them once each. */
#include "parts.h"

enum { PART = 8192 };

/* counts[part] = how many of the numbers of each PART are above the threshold. */
int trivet_count_above(const float *x, long count, float threshold, long *counts, int threads)
{
    const long parts = (count + PART - 1) / PART;
#pragma omp parallel for schedule(static) num_threads(threads) if (count > WORTH_THREADS)
    for (long b = 0; b < parts; b++) {
        const long end = (b + 1) * PART < count ? (b + 1) * PART : count;
        int above = 0;
        _Pragma("omp simd reduction(+ : above)") for (long i = b * PART; i < end; i++) above += x[i] > threshold;
        counts[b] = above;
    }
    return 0;
}

/* positions = those of the numbers above the threshold, in order; counts as trivet_count_above left them. */
int trivet_find_above(const float *x, long count, float threshold, const long *counts, long *positions)
{
    for (long b = 0; b * PART < count; b++) {
        const long end = (b + 1) * PART < count ? (b + 1) * PART : count;
        if (!counts[b]) continue;
        for (long i = b * PART; i < end; i++)
            if (x[i] > threshold) *positions++ = i;
    }
    return 0;
}

/* Returns 1 if a number is NaN or infinite, else 0. */
int trivet_has_infinite(const float *x, long count, int threads)
{
    int found = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : found) if (count > WORTH_THREADS)
    for (long b = 0; b < (count + PART - 1) / PART; b++) {
        const long end = (b + 1) * PART < count ? (b + 1) * PART : count;
        _Pragma("omp simd reduction(| : found)") for (long i = b * PART; i < end; i++) found |= x[i] - x[i] != 0;
    }
    return found;
}
