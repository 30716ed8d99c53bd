/* Convolutions in evaluation, channels last: norms are folded into weights, activations applied as a map is written.

   A pointwise convolution before a depthwise one is computed as that one's rows are needed, some channels at a time, so
   that the wide map between them is never stored. Each number of a result is summed in the same order whatever the
   number of threads. */
#include "product.h"
#include "taps.h"

enum { POINTWISE, DEPTHWISE, EXPANDED, GATE, DENSE, NORM, FUSE }; /* what a step does */
enum { ABSENT = -1, ENTERING = -2, LEAVING = -3 };                /* places that are not in the arena */
enum { GROUP = 4, LEAST_CHUNK = 4, JOBS = 8 };                    /* vectors and rows of a job; the least number of jobs */
enum { MOST_ENTERING = 3 };                                       /* as many as FUSE takes */

/* One step for one image. The numbers are those of `_Step` in program.py; places are floats from the arena's begin, or one
   of the above. */
typedef struct {
    long what, from, to, gate, add, pooled;
    long h, w, inputs, outputs, oh, ow, k, stride, top, left;
    long kind, taps_kind, hard;
    float slope, taps_slope;
    const Vec *weight, *start; /* of a product of matrices; a norm's factors and terms; a gate's first layer; shares */
    const Vec *taps, *shift;   /* of a depthwise convolution; a gate's second layer; what is fused */
} Step;

INLINE void activate_all(int kind, float slope, float *at, long count)
{
    long i = 0;
    for (; i + LANES <= count; i += LANES) store(at + i, activate_vector(kind, slope, load(at + i, LANES)), LANES);
    if (i < count) store(at + i, activate_vector(kind, slope, load(at + i, count - i)), count - i);
}

static void activate_run(long kind, float slope, float *at, long count)
{
    if (kind == NONE) return;
#define CASE(KIND) activate_all(KIND, slope, at, count)
    FOR_KIND(kind, CASE)
#undef CASE
}

/* Some rows: activation(a times the weight + start) + add. */
static void panel(const Step *s, const float *a, const Vec *weight, const float *add, float *y, long rows)
{
    multiply(a, s->inputs, rows, s->inputs, weight, s->start, s->outputs, y, s->outputs);
    activate_run(s->kind, s->slope, y, rows * s->outputs);
    if (add)
        for (long i = 0; i < rows * s->outputs; i++) y[i] += add[i];
}

static void gated_rows_of(const float *restrict a, const float *restrict gate, long rows, long channels, float *restrict to)
{
    for (long r = 0; r < rows; r++)
        SIMD for (long c = 0; c < channels; c++) to[r * channels + c] = a[r * channels + c] * gate[c];
}

/* The gate in the packed weight of `outputs` columns. */
static void gated_weight(const Vec *restrict packed, const float *restrict gate, long depth, long outputs, Vec *restrict to)
{
    for (long first = 0, vectors = blocks_of(outputs); first < vectors; first += MOST_V) {
        const long wide = vectors - first < MOST_V ? vectors - first : MOST_V;
        for (long k = 0; k < depth; k++)
            for (long v = 0; v < wide; v++, to++, packed++) *to = *packed * gate[k];
    }
}

/* A gate is applied to the weight where that is less work than to the map. */
static int pointwise(const Step *s, const float *x, const float *gate, const float *add, float *y, int threads)
{
    const long area = s->h * s->w, most = panel_rows(s->inputs + s->outputs);
    const int weighted = gate && area > 4 * s->outputs; /* for any number of threads: it rounds otherwise */
    long parts = (area + most - 1) / most;
    if (area > threads) parts = (parts + threads - 1) / threads * threads;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (area * s->inputs * s->outputs > WORTH_THREADS)
    {
        const long floats = weighted ? s->inputs * blocks_of(s->outputs) * LANES : most * s->inputs;
        Vec *scratch = gate ? room(blocks_of(floats)) : NULL;
        int ready = 0;
        failed |= gate && !scratch;
#pragma omp for schedule(dynamic)
        for (long b = 0; b < parts; b++) {
            const long row = block_start(b, parts, area), rows = block_start(b + 1, parts, area) - row;
            const float *a = x + row * s->inputs;
            const Vec *weight = s->weight;
            if (gate && !scratch) continue;
            if (weighted) {
                if (!ready) gated_weight(weight, gate, s->inputs, s->outputs, scratch);
                ready = 1, weight = scratch;
            } else if (gate) {
                gated_rows_of(a, gate, rows, s->inputs, (float *)scratch);
                a = (float *)scratch;
            }
            panel(s, a, weight, add ? add + row * s->outputs : NULL, y + row * s->outputs, rows);
        }
        free(scratch);
    }
    return failed;
}

/* One row of `blocks` vectors of channels from vector `first` on, into a slot of the ring. */
static void enter_blocks(const Step *s, const float *row, Vec *slot, long width, long first, long blocks)
{
    const Vec none = {0};
    if (s->what == DEPTHWISE) {
        for (long b = 0; b < blocks; b++) {
            const long lanes = lanes_of(s->outputs, first + b);
            const float *in = row + (first + b) * LANES;
            if (lanes == LANES) enter(NONE, 0, 0, in, slot + b * width, s->w, s->outputs, LANES, none, none, none);
            else enter(NONE, 0, 0, in, slot + b * width, s->w, s->outputs, lanes, none, none, none);
        }
        return;
    }
    const Rows a = {row, s->inputs, s->inputs, 1, 0};
    for (long b = 0; b < blocks; b += MOST_V) {
        const long wide = blocks - b < MOST_V ? blocks - b : MOST_V;
        Vec *out = slot + b * width;
        multiply_block(&a, s->w, s->weight + (first + b) * s->inputs, s->start + first + b, wide, (float *)out, LANES,
                       width * LANES, LANES);
        for (long v = 0; v < wide; v++) activate_run(s->kind, s->slope, (float *)(out + v * width), s->w * LANES);
    }
}

INLINE Vec finish(int kind, float slope, float *y, long count, long step, long lanes, Vec shift)
{
    Vec sum = {0};
    for (long x = 0; x < count; x++, y += step) {
        const Vec v = activate_vector(kind, slope, load(y, lanes) + shift);
        store(y, v, lanes);
        sum += v;
    }
    return sum;
}

/* Add the shift to one vector of channels of a row, activate, and return the sum over the row. */
static Vec finish_row(const Step *s, float *y, long lanes, Vec shift)
{
    Vec sum = {0};
#define CASE(KIND)                                                                                                   \
    sum = lanes == LANES ? finish(KIND, s->taps_slope, y, s->ow, s->outputs, LANES, shift)                           \
                         : finish(KIND, s->taps_slope, y, s->ow, s->outputs, lanes, shift)
    FOR_KIND(s->taps_kind, CASE)
#undef CASE
    return sum;
}

/* Rows [from, to), `blocks` vectors of channels from vector `first` on. */
static void depthwise_job(const Step *s, const float *x, float *y, float *pooled, Ring *ring, long from, long to,
                          long first, long blocks)
{
    const long left = lanes_of(s->outputs, first + blocks - 1), channels = (blocks - 1) * LANES + left;
    ring->next = from * s->stride - s->top;
    for (long oy = from; oy < to; oy++) {
        const long top = oy * s->stride - s->top;
        const Vec *rows[MOST_K];
        for (; ring->next < top + s->k; ring->next++) {
            Vec *slot = ring_slot(ring, ring->next) + ring->left;
            if (ring->next >= 0 && ring->next < s->h)
                enter_blocks(s, x + ring->next * s->w * s->inputs, slot, ring->width, first, blocks);
            else
                for (long b = 0; b < blocks; b++) memset(slot + b * ring->width, 0, sizeof(Vec) * s->w);
        }
        for (long ky = 0; ky < s->k; ky++) rows[ky] = ring_slot(ring, top + ky);
        float *out = y + oy * s->ow * s->outputs + first * LANES;
        convolve_row(s->k, s->k, s->stride, rows, ring->width, s->taps + first * s->k * s->k, out, s->ow, s->outputs,
                     channels);
        for (long b = 0; b < blocks; b++) {
            const long lanes = lanes_of(channels, b);
            const Vec sum = finish_row(s, out + b * LANES, lanes, s->shift[first + b]);
            if (pooled) store(pooled + oy * s->outputs + (first + b) * LANES, sum, lanes);
        }
    }
}

/* `pooled`, if there is one, receives the sum over each row of y: [rows, channels]. */
static int depthwise(const Step *s, const float *x, float *y, float *pooled, int threads)
{
    const long blocks = blocks_of(s->outputs), groups = (blocks + GROUP - 1) / GROUP;
    const long jobs = JOBS > 4 * threads ? JOBS : 4 * threads;
    long chunks = (jobs + groups - 1) / groups;
    if (chunks > s->oh / LEAST_CHUNK) chunks = s->oh < LEAST_CHUNK ? 1 : s->oh / LEAST_CHUNK;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (s->h * s->w * s->outputs > WORTH_THREADS)
    {
        const long read = (s->ow - 1) * s->stride + s->k, held = s->left + s->w;
        Ring ring = make_ring(s->k, s->left, read > held ? read : held, GROUP * LANES);
        failed |= !ring.slots;
#pragma omp for schedule(dynamic)
        for (long job = 0; job < chunks * groups; job++) {
            const long chunk = job / groups, first = job % groups * GROUP;
            if (ring.slots)
                depthwise_job(s, x, y, pooled, &ring, block_start(chunk, chunks, s->oh),
                              block_start(chunk + 1, chunks, s->oh), first,
                              blocks - first < GROUP ? blocks - first : GROUP);
        }
        free(ring.slots);
    }
    return failed;
}

/* A convolution of few channels: a row of y is a product of k runs of k * inputs floats, from k padded rows of x. */
static int dense(const Step *s, const float *x, float *y, int threads)
{
    const long read = (s->ow - 1) * s->stride + s->k, held = s->left + s->w, width = (read > held ? read : held) * s->inputs;
    int failed = 0;
#pragma omp parallel num_threads(threads) reduction(| : failed) if (s->oh * s->ow * s->outputs > WORTH_THREADS)
    {
        float *padded = (float *)zeros(blocks_of(s->k * width));
        failed |= !padded;
#pragma omp for schedule(static)
        for (long oy = 0; oy < s->oh; oy++) {
            const long top = oy * s->stride - s->top;
            const Rows a = {padded, s->stride * s->inputs, s->k * s->inputs, s->k, width};
            if (!padded) continue;
            for (long ky = 0; ky < s->k; ky++) {
                float *to = padded + ky * width + s->left * s->inputs;
                if (top + ky < 0 || top + ky >= s->h) memset(to, 0, sizeof(float) * s->w * s->inputs);
                else
                    memcpy(to, x + (top + ky) * s->w * s->inputs, sizeof(float) * s->w * s->inputs);
            }
            multiply_rows(&a, s->ow, s->weight, s->start, s->outputs, y + oy * s->ow * s->outputs, s->outputs);
            activate_run(s->kind, s->slope, y + oy * s->ow * s->outputs, s->ow * s->outputs);
        }
        free(padded);
    }
    return failed;
}

/* y = activation(x * factor + term). */
static int norm(const Step *s, const float *x, float *y, int threads)
{
    const float *factor = (const float *)s->weight, *term = (const float *)s->start;
    const long c = s->outputs;
#pragma omp parallel for schedule(static) num_threads(threads) if (s->h * s->w * c > WORTH_THREADS)
    for (long row = 0; row < s->h; row++) {
        for (long i = row * s->w; i < (row + 1) * s->w; i++)
            SIMD for (long j = 0; j < c; j++) y[i * c + j] = x[i * c + j] * factor[j] + term[j];
        activate_run(s->kind, s->slope, y + row * s->w * c, s->w * c);
    }
    return 0;
}

/* Squeeze and excitation: pooled[oh, inputs] are sums over rows. */
static int make_gate(const Step *s, const float *pooled, float *gate)
{
    const long c = s->inputs, few = s->outputs;
    const float *reduce = (const float *)s->weight, *expand = (const float *)s->taps;
    double *sums = malloc(sizeof(double) * (c + few));
    if (!sums) return 1;
    memset(sums, 0, sizeof(double) * c);
    for (long row = 0; row < s->oh; row++)
        SIMD for (long i = 0; i < c; i++) sums[i] += (double)pooled[row * c + i];
    for (long i = 0; i < c; i++) gate[i] = (float)(sums[i] / (double)(s->oh * s->ow));
    float *hidden = (float *)(sums + c);
    for (long j = 0; j < few; j++) {
        float total = 0;
        _Pragma("omp simd reduction(+ : total)") for (long i = 0; i < c; i++) total += reduce[j * c + i] * gate[i];
        hidden[j] = total + ((const float *)s->start)[j];
    }
    activate_run(s->kind, s->slope, hidden, few);
    memcpy(gate, s->shift, sizeof(float) * c);
    for (long j = 0; j < few; j++)
        SIMD for (long i = 0; i < c; i++) gate[i] += expand[j * c + i] * hidden[j];
    if (s->hard)
        SIMD for (long i = 0; i < c; i++) gate[i] = at_most(at_least(gate[i] + 3, 0), 6) * (1.0f / 6);
    else
        SIMD for (long i = 0; i < c; i++) gate[i] = sigmoid(gate[i]);
    return free(sums), 0;
}

/* packed = the weight [outputs, inputs] of a pointwise convolution in the order of reading. */
int trivet_pack(const float *weight, long outputs, long inputs, float *packed)
{
    pack(weight, 1, inputs, inputs, outputs, (Vec *)packed, 1);
    return 0;
}

/* turned = the weight [c, k, k] of a depthwise convolution in the order of reading; zeroed by the caller. */
int trivet_turn(const float *weight, long c, long k, float *turned)
{
    turn_weight(weight, (Vec *)turned, k, c, 0, 0, 1);
    return 0;
}

int trivet_fuse(const long *sides, const float *const *maps, const float *shares, float *y, int kind, float slope,
                int threads);

/* How many floats a vector has. */
int trivet_lanes(void) { return LANES; }

static int run_steps(const Step *steps, long count, const float *const *maps, float *y, float *arena, int threads)
{
#define AT(PLACE) ((PLACE) == ENTERING ? (float *)maps[0] : (PLACE) == LEAVING ? y : (PLACE) == ABSENT ? NULL : arena + (PLACE))
    for (const Step *s = steps; s < steps + count; s++) {
        int failed = 0;
        switch (s->what) {
        case POINTWISE: failed = pointwise(s, AT(s->from), AT(s->gate), AT(s->add), AT(s->to), threads); break;
        case GATE: failed = make_gate(s, AT(s->from), AT(s->to)); break;
        case DENSE: failed = dense(s, AT(s->from), AT(s->to), threads); break;
        case FUSE:
            failed = trivet_fuse((const long *)s->taps, maps, (const float *)s->weight, AT(s->to), (int)s->kind, s->slope,
                                 threads);
            break;
        case NORM: failed = norm(s, AT(s->from), AT(s->to), threads); break;
        default: failed = depthwise(s, AT(s->from), AT(s->to), AT(s->pooled), threads);
        }
        if (failed) return 1;
    }
#undef AT
    return 0;
}

/* Run `count` steps from the maps to y, image by image: sizes are floats an image of each map that enters and of y. All
   steps but FUSE read the first map. As many images as there are threads run side by side, in an arena of `floats` each,
   and what is left of them in all threads. Returns 0, or 1 without memory. */
int trivet_evaluate(const Step *steps, long count, const float *const *maps, const long *sizes, long entering, float *y,
                    float *arena, long floats, long images, int threads)
{
    const long together = threads > 1 ? images / threads * threads : 0;
    int failed = 0;
#define IMAGE(I, ARENA, THREADS)                                                                                     \
    const float *at[MOST_ENTERING];                                                                                  \
    for (long m = 0; m < entering; m++) at[m] = maps[m] + (I) * sizes[m];                                            \
    failed |= run_steps(steps, count, at, y + (I) * sizes[entering], ARENA, THREADS);
#pragma omp parallel for schedule(static) num_threads(threads) reduction(| : failed) if (together > 0)
    for (long part = 0; part < threads; part++)
        for (long i = together * part / threads; i < together * (part + 1) / threads; i++) {
            IMAGE(i, arena + part * floats, 1)
        }
    for (long i = together; i < images; i++) {
        IMAGE(i, arena, threads)
    }
#undef IMAGE
    return failed;
}
