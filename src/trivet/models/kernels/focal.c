/* Focal loss of negatives and its gradient in one reading: loss = p^gamma (softplus(x) - smoothing / 2 * x), p = sigmoid(x).

   Sums are taken over fixed pieces and combined in their order, so that the result does not depend on the number of
   threads. */
#include <math.h>
#include <stdlib.h>

#include "parts.h"

enum { PIECE = 4096 };
enum { ANY, ONE_AND_A_HALF, TWO };

/* log(1 + e) for e in 0-1, to a few units in the last place however small e is: 2 artanh(e / (2 + e)) as its series. */
INLINE float log_of_one_more(float e)
{
    const float s = e / (2 + e), t = s * s;
    float series = 1.0f / 15;
    series = series * t + 1.0f / 13;
    series = series * t + 1.0f / 11;
    series = series * t + 1.0f / 9;
    series = series * t + 1.0f / 7;
    series = series * t + 1.0f / 5;
    series = series * t + 1.0f / 3;
    series = series * t + 1.0f;
    return 2 * s * series;
}

INLINE float focal_piece(const int power, const float *restrict logits, float *restrict slope, long count, float gamma,
                         float half)
{
    float total = 0;
    _Pragma("omp simd reduction(+ : total)") for (long i = 0; i < count; i++)
    {
        const float x = logits[i], e = exponential(-fabsf(x)), other = 1 / (1 + e);
        const float p = x < 0 ? e * other : other, q = x < 0 ? other : e * other; /* q = 1 - p */
        const float plus = (x < 0 ? 0 : x) + log_of_one_more(e);
        const float fade = power == ONE_AND_A_HALF ? p * sqrtf(p) : power == TWO ? p * p : exponential(gamma * (x - plus));
        const float loss = fade * (plus - half * x);
        slope[i] = gamma * loss * q + fade * (p - half);
        total += loss;
    }
    return total;
}

/* slope[count] = the gradient of each logit's loss, *sum = the losses' sum. Returns 0, or 1 without memory. */
int trivet_focal(const float *logits, float *slope, long count, float gamma, float smoothing, double *sum, int threads)
{
    const long pieces = (count + PIECE - 1) / PIECE;
    const int power = gamma == 1.5f ? ONE_AND_A_HALF : gamma == 2.0f ? TWO : ANY;
    float *totals = malloc(sizeof(float) * (pieces ? pieces : 1));
    if (!totals) return 1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < pieces; b++) {
        const long from = b * PIECE, here = count - from < PIECE ? count - from : PIECE;
        switch (power) {
        case ONE_AND_A_HALF: totals[b] = focal_piece(ONE_AND_A_HALF, logits + from, slope + from, here, gamma, smoothing / 2); break;
        case TWO: totals[b] = focal_piece(TWO, logits + from, slope + from, here, gamma, smoothing / 2); break;
        default: totals[b] = focal_piece(ANY, logits + from, slope + from, here, gamma, smoothing / 2);
        }
    }
    *sum = 0;
    for (long b = 0; b < pieces; b++) *sum += (double)totals[b];
    return free(totals), 0;
}
