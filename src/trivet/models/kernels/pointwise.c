/* Pointwise convolution, channels last, as a product of matrices: x [rows, inputs], y [rows, outputs].

   Rows are taken a panel at a time. What comes before the convolution (norm, activation, gate) is applied as a panel is
   read, the statistics of y are taken as it is written, and the backward pass does the same with the gradients: nothing
   between two convolutions but their own results is ever stored. Sums are combined in the order of fixed parts, so that
   the result does not depend on the number of threads. */
#include "maps.h"
#include "moments.h"
#include "product.h"

enum { MOST_PARTS = 64, MOST_GROUPS = 16, GROUP_ROWS = 400 };

static long padded(long c) { return blocks_of(c) * LANES; }

/* y = x as its reader sees it times the weight [outputs, inputs], plus the bias if there is one. `moments`, if given,
   receives the mean and the biased variance of each output. Returns 0, or 1 without memory. */
int trivet_pointwise(const Map *x, const float *weight, const float *bias, float *y, long rows, long outputs,
                     double *moments, int threads)
{
    const long inputs = x->channels, most = panel_rows(inputs + outputs);
    const long parts = block_count((rows + most - 1) / most, MOST_PARTS);
    Vec *packed = room(inputs * blocks_of(outputs)), *start = zeros(blocks_of(outputs));
    double *seen = moments ? calloc(2 * parts * outputs, sizeof(double)) : NULL;
    long counts[MOST_PARTS];
    int failed = !packed || !start || (moments && !seen);
    if (failed) return free(packed), free(start), free(seen), 1;
    pack(weight, 1, inputs, inputs, outputs, packed, threads);
    if (bias) memcpy(start, bias, sizeof(float) * outputs);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Vec *scratch = room(blocks_of(most * inputs) + 2 * blocks_of(outputs));
        float *sums = (float *)(scratch + blocks_of(most * inputs));
        failed |= !scratch;
#pragma omp for schedule(static)
        for (long b = 0; b < parts; b++) {
            const long begin = block_start(b, parts, rows), end = block_start(b + 1, parts, rows);
            counts[b] = end - begin;
            for (long row = begin, count; row < end && scratch; row += count) {
                count = end - row < most ? end - row : most;
                if (x->gate && x->image_rows - row % x->image_rows < count) count = x->image_rows - row % x->image_rows;
                const float *a = x->map + row * inputs;
                if (x->mean) read_map(x, row, count, (float *)scratch, inputs), a = (float *)scratch;
                multiply(a, inputs, count, inputs, packed, start, outputs, y + row * outputs, outputs);
                if (seen)
                    add_moments(y + row * outputs, count, outputs, row - begin, seen + 2 * b * outputs,
                                seen + (2 * b + 1) * outputs, sums, sums + outputs);
            }
        }
        free(scratch);
    }
    if (moments) join_moments(seen, counts, parts, outputs, moments);
    return free(packed), free(start), free(seen), failed;
}

/* The gradient through an activation, in place, and the norm's sums of it: sums[2, channels] += g, g * (x - mean). */
INLINE void through_activation(int kind, const Map *x, long row, long count, float *d, float *restrict sums)
{
    const long channels = x->channels;
    const float *restrict mean = x->mean, *restrict scale = x->scale, *restrict shift = x->shift;
    float *restrict products = sums + channels;
    for (long r = 0; r < count; r++) {
        const float *restrict in = x->map + (row + r) * channels;
        float *restrict at = d + r * channels;
        SIMD for (long c = 0; c < channels; c++) {
            const float apart = in[c] - mean[c];
            const float g = at[c] * slope_at(kind, x->slope, apart * scale[c] + shift[c]);
            at[c] = g, sums[c] += g, products[c] += g * apart;
        }
    }
}

/* What the gate's gradient and the norm's sums are made of once that gradient is known, with a = activation(z) and s its
   derivative: sums[5, channels] += d a, d s, d s (x - mean), s, s (x - mean). */
INLINE void gated_sums(int kind, const Map *x, long row, long count, const float *d, float *sums)
{
    const long channels = x->channels;
    const float *restrict mean = x->mean, *restrict scale = x->scale, *restrict shift = x->shift;
    float *restrict s0 = sums, *restrict s1 = sums + channels, *restrict s2 = sums + 2 * channels;
    float *restrict s3 = sums + 3 * channels, *restrict s4 = sums + 4 * channels;
    for (long r = 0; r < count; r++) {
        const float *restrict in = x->map + (row + r) * channels, *restrict at = d + r * channels;
        SIMD for (long c = 0; c < channels; c++) {
            const float apart = in[c] - mean[c], z = apart * scale[c] + shift[c];
            const float s = slope_at(kind, x->slope, z), ds = at[c] * s;
            s0[c] += at[c] * activate(kind, x->slope, z);
            s1[c] += ds, s2[c] += ds * apart, s3[c] += s, s4[c] += s * apart;
        }
    }
}

static void add_panel(const Map *x, long row, long count, float *d, const float *add, long kinds, float *sums,
                      double *total)
{
    const long channels = x->channels;
    if (add)
        for (long i = 0; i < count * channels; i++) d[i] += add[row * channels + i];
    if (!x->mean) return;
    memset(sums, 0, sizeof(float) * kinds * channels);
    if (x->gate) {
#define CASE(KIND) gated_sums(KIND, x, row, count, d, sums)
        FOR_KIND(x->kind, CASE)
#undef CASE
    } else {
#define CASE(KIND) through_activation(KIND, x, row, count, d, sums)
        FOR_KIND(x->kind, CASE)
#undef CASE
    }
    for (long i = 0; i < kinds * channels; i++) total[i] += (double)sums[i];
}

/* The division of the rows: `images` runs of them, each in `pieces`. */
typedef struct {
    long rows, images, pieces, most, kinds;
} Plan;

static Plan plan_of(const Map *x, const Map *y, const Gradient *dy, long rows)
{
    const long images = x->gate || dy->pooled ? rows / x->image_rows : 1;
    long pieces = rows / images / GROUP_ROWS;
    const long most = images < MOST_GROUPS ? MOST_GROUPS / images : 1;
    pieces = pieces < 1 ? 1 : pieces > most ? most : pieces;
    if (pieces > 1) pieces -= pieces % 2; /* for two threads alike */
    return (Plan){rows, images, pieces, panel_rows(2 * padded(x->channels) + y->channels), x->gate ? 5 : 2};
}

/* Add up what the groups found: the weight's gradient over all, the sums over the pieces of each image. */
static void add_groups(const Plan *plan, const Map *x, const Map *y, const float *parts, const double *seen,
                       float *dweight, float *dbias, double *sums, int threads)
{
    const long inputs = x->channels, outputs = y->channels, width = padded(inputs), groups = plan->images * plan->pieces;
    const long own = plan->kinds * inputs + outputs;
#pragma omp parallel for schedule(static) num_threads(threads) if (groups * outputs * inputs > WORTH_THREADS)
    for (long n = 0; n < (dweight ? outputs : 0); n++) {
        float *restrict total = dweight + n * inputs;
        memcpy(total, parts + n * width, sizeof(float) * inputs);
        for (long b = 1; b < groups; b++) {
            const float *restrict part = parts + (b * outputs + n) * width;
            SIMD for (long k = 0; k < inputs; k++) total[k] += part[k];
        }
    }
    for (long n = 0; n < outputs && dbias; n++) {
        double total = 0;
        for (long b = 0; b < groups; b++) total += seen[b * own + plan->kinds * inputs + n];
        dbias[n] = (float)total;
    }
    if (!sums) return;
    for (long b = 0; b < groups; b++)
        for (long i = 0; i < plan->kinds * inputs; i++) {
            double *to = sums + (x->gate ? b / plan->pieces : 0) * plan->kinds * inputs + i;
            *to = (x->gate ? b % plan->pieces : b) ? *to + seen[b * own + i] : seen[b * own + i];
        }
}

/* The gradients of trivet_pointwise from the gradient of y; dx, dweight and dbias may be NULL.

   dx is that of what the convolution read; where x has a norm and no gate, of what comes before the activation. `add`,
   if given, is added to dx. `sums`, if x has a norm: [2, inputs] for its gradients, or with a gate [images, 5, inputs]
   (see gated_sums). Returns 0, or 1 without memory. */
int trivet_pointwise_backward(const Map *x, const float *weight, const Map *y, const Gradient *dy, long rows, float *dx,
                              const float *add, double *sums, float *dweight, float *dbias, int threads)
{
    const Plan plan = plan_of(x, y, dy, rows);
    const long inputs = x->channels, outputs = y->channels, width = padded(inputs), most = plan.most;
    const long groups = plan.images * plan.pieces, part = outputs * width, own = plan.kinds * inputs + outputs;
    Vec *packed = room(outputs * blocks_of(inputs)), *parts = dweight ? room(groups * part / LANES) : NULL;
    double *seen = calloc(groups * own, sizeof(double));
    int failed = !packed || (dweight && !parts) || !seen;
    if (failed) return free(packed), free(parts), free(seen), 1;
    pack(weight, inputs, 1, outputs, inputs, packed, threads);
#pragma omp parallel num_threads(threads) reduction(| : failed)
    {
        Vec *scratch = zeros(most * width / LANES + blocks_of(most * outputs) + blocks_of(own));
        float *as_read = (float *)scratch, *up = as_read + most * width;
        float *here = up + blocks_of(most * outputs) * LANES;
        failed |= !scratch;
#pragma omp for schedule(static)
        for (long b = 0; b < groups; b++) {
            const long image = b / plan.pieces, piece = b % plan.pieces, of_image = rows / plan.images;
            const long begin = image * of_image + block_start(piece, plan.pieces, of_image);
            const long end = image * of_image + block_start(piece + 1, plan.pieces, of_image);
            double *mine = seen + b * own;
            for (long row = begin, count; row < end && scratch; row += count) {
                count = end - row < most ? end - row : most;
                read_gradient(y, dy, row, count, up, outputs);
                if (dweight) {
                    read_map(x, row, count, as_read, width);
                    multiply_transposed(up, outputs, outputs, as_read, width, count, (float *)parts + b * part,
                                        row == begin);
                }
                for (long r = 0; r < count && dbias; r++)
                    for (long n = 0; n < outputs; n++) mine[plan.kinds * inputs + n] += (double)up[r * outputs + n];
                if (!dx) continue;
                multiply(up, outputs, count, outputs, packed, NULL, inputs, dx + row * inputs, inputs);
                add_panel(x, row, count, dx + row * inputs, add, plan.kinds, here, mine);
            }
        }
        free(scratch);
    }
    add_groups(&plan, x, y, (const float *)parts, seen, dweight, dbias, x->mean ? sums : NULL, threads);
    return free(packed), free(parts), free(seen), failed;
}
