/* Depthwise convolution, channels last, padded without a padded copy: x [n, h, w, c], y [n, oh, ow, c].

   The work is divided into chunks of rows of one image. A chunk keeps the k rows of x that a row of y needs in a ring of
   padded rows, which stays in the cache; a batch norm and activation before the convolution are applied as a row enters
   the ring, so that their result is never stored. The gradient of x is a convolution with the kernel turned round, of
   stride 1; where the stride is 2, one such convolution for the even and one for the odd pixels, rows alike. Sums are
   combined in the chunks' order: the number of threads changes nothing. */
#include "moments.h"
#include "taps.h"

/* Output rows [from, to) of one image; `seen` holds their mean and sum of squared deviations by channel, if wanted. */
static void forward_rows(const Shape *s, const Map *x, Ring *ring, long image, long from, long to, const Vec *turned,
                         float *y, double *seen, float *sums)
{
    ring->next = from * s->stride - s->top;
    for (long oy = from; oy < to; oy++) {
        const long first = oy * s->stride - s->top, at = (image * s->oh + oy) * s->ow * s->c;
        const Vec *rows[MOST_K];
        while (ring->next < first + s->k) enter_row(ring, x, NULL, image, s->h, s->w);
        for (long ky = 0; ky < s->k; ky++) rows[ky] = ring_slot(ring, first + ky);
        convolve_row(s->k, s->k, s->stride, rows, ring->width, turned, y + at, s->ow, s->c, s->c);
        if (seen) add_moments(y + at, s->ow, s->c, (oy - from) * s->ow, seen, seen + s->c, sums, sums + s->c);
    }
}

/* y, from x as its reader sees it (no gate). `moments`, if given, receives the mean and the biased variance of each
   channel of y. Returns 0, or 1 without memory. */
int trivet_depthwise(const long *shape, const Map *x, const float *weight, float *y, double *moments, int threads)
{
    Shape s;
    memcpy(&s, shape, sizeof s);
    const long chunks = chunks_of(s.oh), count = s.n * chunks;
    int failed = 0;
    Vec *turned = zeros(blocks_of(s.c) * s.k * s.k);
    double *seen = moments ? calloc(2 * count * s.c, sizeof(double)) : NULL;
    long *counts = calloc(count, sizeof(long));
    if (!turned || !counts || (moments && !seen)) return free(turned), free(seen), free(counts), 1;
    turn_weight(weight, turned, s.k, s.c, 0, 0, 1);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Ring ring = ring_for_x(&s);
        Vec *sums = zeros(blocks_of(2 * s.c));
        failed |= !ring.slots || !sums;
#pragma omp for schedule(static)
        for (long b = 0; b < count; b++) {
            const long from = block_start(b % chunks, chunks, s.oh), to = block_start(b % chunks + 1, chunks, s.oh);
            counts[b] = (to - from) * s.ow;
            if (ring.slots && sums)
                forward_rows(&s, x, &ring, b / chunks, from, to, turned, y, seen ? seen + 2 * b * s.c : NULL,
                             (float *)sums);
        }
        free(ring.slots), free(sums);
    }
    if (moments) join_moments(seen, counts, count, s.c, moments);
    return free(turned), free(seen), free(counts), failed;
}
