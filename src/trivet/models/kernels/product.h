/* Products of matrices whose rows are pixels: a few registers of sums a tile, weights packed in the order of reading. */
#ifndef TRIVET_PRODUCT_H
#define TRIVET_PRODUCT_H

#include "vectors.h"

/* A tile is TALL(V) rows by V vectors: as many sums as the registers hold beside what they are made of. */
#ifdef __AVX512F__
#define MOST_V 4
enum { MOST_SUMS = 24 };
#define TALL(V) ((V) == 4 ? 6 : (V) == 3 ? 8 : 12)
#else
#define MOST_V 2
enum { MOST_SUMS = 12 };
#define TALL(V) ((V) == 2 ? 6 : 12)
#endif

enum { LEAST_ROWS = 48, MOST_ROWS = 192, CACHED = 160 * 1024 };

/* A panel of as many rows, of so many floats each, as fit the cache; a multiple of every tile's. */
static inline long panel_rows(long floats)
{
    const long fitting = CACHED / floats / 24 * 24;
    return fitting < LEAST_ROWS ? LEAST_ROWS : fitting > MOST_ROWS ? MOST_ROWS : fitting;
}

/* packed[block][k][v] = the vector v of a block of columns at depth k, of the matrix w[k * down + column * right]. */
static inline void pack(const float *w, long down, long right, long depth, long columns, Vec *packed, int threads)
{
    const long vectors = blocks_of(columns);
#pragma omp parallel for schedule(static) num_threads(threads) if (depth * columns > WORTH_THREADS)
    for (long first = 0; first < vectors; first += MOST_V) {
        const long wide = vectors - first < MOST_V ? vectors - first : MOST_V;
        Vec *to = packed + first * depth;
        for (long k = 0; k < depth; k++)
            for (long v = first; v < first + wide; v++, to++)
                for (long i = 0, lanes = lanes_of(columns, v); i < LANES; i++)
                    (*to)[i] = i < lanes ? w[k * down + (v * LANES + i) * right] : 0;
    }
}

/* A matrix as products read it: each row is `runs` runs of `depth` floats, `gap` floats apart. */
typedef struct {
    const float *at;
    long step, depth, runs, gap; /* `step` floats from row to row */
} Rows;

/* y[M rows, V vectors] = start + rows of a times packed columns; vectors of y are `apart` floats apart, and the last has
   `lanes` lanes. */
INLINE void tile(const int M, const int V, const Rows *a, long row, const Vec *w, const Vec *start, float *y, long ldy,
                 long apart, long lanes)
{
    const long step = a->step, depth = a->depth;
    const float *in = a->at + row * step;
    Vec sums[MOST_SUMS];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sums[m * V + v] = start ? start[v] : (Vec){0};
    for (long run = 0; run < a->runs; run++, in += a->gap)
        for (long k = 0; k < depth; k++, w += V) {
#pragma GCC unroll 12
            for (int m = 0; m < M; m++) {
                const float left = in[m * step + k];
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) sums[m * V + v] += left * w[v];
            }
        }
#pragma GCC unroll 12
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store(y + m * ldy + v * apart, sums[m * V + v], v < V - 1 ? LANES : lanes);
}

INLINE void tiles(const int V, const Rows *a, long rows, const Vec *w, const Vec *start, float *y, long ldy, long apart,
                  long lanes)
{
    long r = 0;
#define DOWN(M)                                                                                                      \
    for (; r + (M) <= rows; r += (M)) tile(M, V, a, r, w, start, y + r * ldy, ldy, apart, lanes);
    DOWN(TALL(V)) DOWN(4) DOWN(1)
#undef DOWN
}

/* The same for all rows and one block of packed columns, `wide` vectors of them. */
static inline void multiply_block(const Rows *a, long rows, const Vec *w, const Vec *start, long wide, float *y, long ldy,
                                  long apart, long lanes)
{
#define CASE(V)                                                                                                      \
    case V:                                                                                                          \
        if (lanes == LANES) tiles(V, a, rows, w, start, y, ldy, apart, LANES);                                       \
        else tiles(V, a, rows, w, start, y, ldy, apart, lanes);                                                      \
        break;
    switch (wide) {
        CASE(1) CASE(2)
#if MOST_V == 4
        CASE(3) CASE(4)
#endif
    }
#undef CASE
}

/* y[rows, columns] = rows of a times a packed matrix, plus `start` (whole vectors) if there is one. */
static inline void multiply_rows(const Rows *a, long rows, const Vec *packed, const Vec *start, long columns, float *y,
                                 long ldy)
{
    const long vectors = blocks_of(columns);
    for (long first = 0; first < vectors; first += MOST_V) {
        const long wide = vectors - first < MOST_V ? vectors - first : MOST_V;
        multiply_block(a, rows, packed + first * a->depth * a->runs, start ? start + first : NULL, wide,
                       y + first * LANES, ldy, LANES, lanes_of(columns, first + wide - 1));
    }
}

/* The same for a[rows, depth], each row in one run. */
static inline void multiply(const float *a, long lda, long rows, long depth, const Vec *packed, const Vec *start,
                            long columns, float *y, long ldy)
{
    const Rows whole = {a, lda, depth, 1, 0};
    multiply_rows(&whole, rows, packed, start, columns, y, ldy);
}

/* sum[M, V vectors] += b[rows, M] transposed times a[rows, V vectors]; = where it is `fresh`. */
INLINE void outer_tile(const int M, const int V, const float *b, long ldb, const float *a, long lda, long rows,
                       float *sum, long lds, int fresh)
{
    Vec sums[MOST_SUMS];
#pragma GCC unroll 12
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) sums[m * V + v] = fresh ? (Vec){0} : load(sum + m * lds + v * LANES, LANES);
    for (long r = 0; r < rows; r++, a += lda, b += ldb) {
#pragma GCC unroll 12
        for (int m = 0; m < M; m++) {
            const float left = b[m];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) sums[m * V + v] += left * load(a + v * LANES, LANES);
        }
    }
#pragma GCC unroll 12
    for (int m = 0; m < M; m++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) store(sum + m * lds + v * LANES, sums[m * V + v], LANES);
}

INLINE void outer_tiles(const int V, const float *b, long ldb, const float *a, long lda, long rows, long count,
                        float *sum, long lds, int fresh)
{
    long m = 0;
#define DOWN(M)                                                                                                      \
    for (; m + (M) <= count; m += (M)) outer_tile(M, V, b + m, ldb, a, lda, rows, sum + m * lds, lds, fresh);
    DOWN(TALL(V)) DOWN(4) DOWN(1)
#undef DOWN
}

/* sum[count, lda] += b[rows, count] transposed times a[rows, lda], where lda is a number of whole vectors; = where the sum
   is `fresh`. */
static inline void multiply_transposed(const float *b, long ldb, long count, const float *a, long lda, long rows,
                                       float *sum, int fresh)
{
    const long vectors = lda / LANES;
    for (long first = 0; first < vectors; first += MOST_V) {
        const float *from = a + first * LANES;
        float *to = sum + first * LANES;
        switch (vectors - first < MOST_V ? vectors - first : MOST_V) {
        case 1: outer_tiles(1, b, ldb, from, lda, rows, count, to, lda, fresh); break;
        case 2: outer_tiles(2, b, ldb, from, lda, rows, count, to, lda, fresh); break;
#if MOST_V == 4
        case 3: outer_tiles(3, b, ldb, from, lda, rows, count, to, lda, fresh); break;
        case 4: outer_tiles(4, b, ldb, from, lda, rows, count, to, lda, fresh); break;
#endif
        }
    }
}

#endif
