/* The weighted sum of up to three maps and the activation after it, channels last; a smaller map is read enlarged by
   its nearest pixels. Nothing between is stored. Pieces of rows never share a row of the smaller map, and sums are
   combined in their order: the number of threads changes nothing. */
#include "vectors.h"

enum { MOST_MAPS = 3 };

/* The sides in the order of `_Sides` in fuse.py: images, channels, the result's height and width and the smaller maps'. */
typedef struct {
    long n, c, h, w, small_h, small_w, count;
    long enlarged[MOST_MAPS];
} Sides;

/* PyTorch's rule for the nearest pixel. */
static long nearest(long at, long from, long to)
{
    const long found = (long)((float)at * ((float)from / (float)to));
    return found < from ? found : from - 1;
}

/* The first row of the result that reads row `small` of a smaller map or one after it. */
static long first_row(const Sides *s, long small)
{
    long row = small * s->h / s->small_h;
    while (row > 0 && nearest(row - 1, s->small_h, s->h) >= small) row--;
    while (row < s->h && nearest(row, s->small_h, s->h) < small) row++;
    return row;
}

static long place(const Sides *s, int map, long image, long y, const long *columns, long x)
{
    if (!s->enlarged[map]) return ((image * s->h + y) * s->w + x) * s->c;
    return ((image * s->small_h + nearest(y, s->small_h, s->h)) * s->small_w + columns[x]) * s->c;
}

/* Result rows [*from, *to) of piece `piece` of `pieces`. */
static void rows_of(const Sides *s, long piece, long pieces, long *from, long *to)
{
    *from = first_row(s, block_start(piece, pieces, s->small_h));
    *to = piece + 1 == pieces ? s->h : first_row(s, block_start(piece + 1, pieces, s->small_h));
}

INLINE void fuse_pixel(const int count, int kind, float slope, const float *restrict a, const float *restrict b,
                       const float *restrict d, const float *shares, float *restrict y, long channels)
{
    const float s0 = shares[0], s1 = shares[1], s2 = count > 2 ? shares[2] : 0;
    SIMD for (long c = 0; c < channels; c++)
        y[c] = activate(kind, slope, a[c] * s0 + b[c] * s1 + (count > 2 ? d[c] * s2 : 0));
}

/* y = activation(sum of share times map). Returns 0, or 1 without memory. */
int trivet_fuse(const long *sides, const float *const *maps, const float *shares, float *y, int kind, float slope,
                int threads)
{
    Sides s;
    memcpy(&s, sides, sizeof s);
    long *columns = malloc(sizeof(long) * s.w);
    if (!columns) return 1;
    for (long x = 0; x < s.w; x++) columns[x] = nearest(x, s.small_w, s.w);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long row = 0; row < s.n * s.h; row++)
        for (long x = 0; x < s.w; x++) {
            const float *at[MOST_MAPS] = {NULL, NULL, NULL};
            for (int m = 0; m < s.count; m++) at[m] = maps[m] + place(&s, m, row / s.h, row % s.h, columns, x);
            float *to = y + (row * s.w + x) * s.c;
#define CASE(KIND)                                                                                                   \
    if (s.count == 2) fuse_pixel(2, KIND, slope, at[0], at[1], NULL, shares, to, s.c);                               \
    else fuse_pixel(3, KIND, slope, at[0], at[1], at[2], shares, to, s.c)
            FOR_KIND(kind, CASE)
#undef CASE
        }
    return free(columns), 0;
}

/* `add[m]`: the gradient is added to what a pixel of a smaller map has already; else it is written. */
INLINE void slope_pixel(const int count, int kind, float slope, const float *const *at, const float *restrict dy,
                        const float *shares, float *const *d, const long *add, float *restrict sums, long channels)
{
    const float *restrict x0 = at[0], *restrict x1 = at[1], *restrict x2 = at[2];
    float *restrict d0 = d[0], *restrict d1 = d[1], *restrict d2 = d[2];
    float *restrict t0 = sums, *restrict t1 = sums + channels, *restrict t2 = sums + 2 * channels;
    const float s0 = shares[0], s1 = shares[1], s2 = count > 2 ? shares[2] : 0;
    const long k0 = add[0], k1 = add[1], k2 = count > 2 ? add[2] : 0;
    SIMD for (long c = 0; c < channels; c++) {
        const float z = x0[c] * s0 + x1[c] * s1 + (count > 2 ? x2[c] * s2 : 0);
        const float g = dy[c] * slope_at(kind, slope, z);
        t0[c] += g * x0[c], t1[c] += g * x1[c];
        d0[c] = (k0 ? d0[c] : 0) + g * s0, d1[c] = (k1 ? d1[c] : 0) + g * s1;
        if (count > 2) t2[c] += g * x2[c], d2[c] = (k2 ? d2[c] : 0) + g * s2;
    }
}

static void slope_row(const Sides *s, const float *const *maps, const float *shares, const float *dy, float *const *dmaps,
                      int kind, float slope, long image, long y, const long *columns, float *sums)
{
    for (long x = 0; x < s->w; x++) {
        const float *at[MOST_MAPS] = {NULL, NULL, NULL};
        float *d[MOST_MAPS] = {NULL, NULL, NULL};
        for (int m = 0; m < s->count; m++) {
            const long where = place(s, m, image, y, columns, x);
            at[m] = maps[m] + where, d[m] = dmaps[m] + where;
        }
        const float *up = dy + ((image * s->h + y) * s->w + x) * s->c;
#define CASE(KIND)                                                                                                   \
    if (s->count == 2) slope_pixel(2, KIND, slope, at, up, shares, d, s->enlarged, sums, s->c);                              \
    else slope_pixel(3, KIND, slope, at, up, shares, d, s->enlarged, sums, s->c)
        FOR_KIND(kind, CASE)
#undef CASE
    }
}

/* The gradients of the maps, zeroed by the caller (a pixel that is never read has none), and of the shares.
   Returns 0, or 1 without memory. */
int trivet_fuse_backward(const long *sides, const float *const *maps, const float *shares, const float *dy,
                         float *const *dmaps, float *dshares, int kind, float slope, int threads)
{
    Sides s;
    memcpy(&s, sides, sizeof s);
    const long pieces = block_count(s.small_h, 8), blocks = s.n * pieces;
    long *columns = malloc(sizeof(long) * s.w);
    double *parts = calloc(blocks * MOST_MAPS, sizeof(double));
    float *scratch = calloc(blocks * MOST_MAPS * s.c, sizeof(float));
    if (!columns || !parts || !scratch) return free(columns), free(parts), free(scratch), 1;
    for (long x = 0; x < s.w; x++) columns[x] = nearest(x, s.small_w, s.w);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long b = 0; b < blocks; b++) {
        long from, to;
        float *sums = scratch + b * MOST_MAPS * s.c;
        rows_of(&s, b % pieces, pieces, &from, &to);
        for (long y = from; y < to; y++) {
            slope_row(&s, maps, shares, dy, dmaps, kind, slope, b / pieces, y, columns, sums);
            for (long i = 0; i < s.count * s.c; i++) parts[b * MOST_MAPS + i / s.c] += (double)sums[i], sums[i] = 0;
        }
    }
    for (long m = 0; m < s.count; m++) {
        double total = 0;
        for (long b = 0; b < blocks; b++) total += parts[b * MOST_MAPS + m];
        dshares[m] = (float)total;
    }
    return free(columns), free(parts), free(scratch), 0;
}
