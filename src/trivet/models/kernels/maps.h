/* A map between two convolutions, as its reader sees it, and the gradient of it.

   A map is kept as the convolution before it wrote it; the norm, the activation and the gate (squeeze and excitation)
   that come before the next convolution are applied as it is read, and so are their gradients. */
#ifndef TRIVET_MAPS_H
#define TRIVET_MAPS_H

#include "vectors.h"

/* z = (map - mean) * scale + shift, read as activation(z) * gate; without `mean` the map is read as it is. */
typedef struct {
    const float *map; /* [rows, channels] */
    const float *mean, *scale, *shift;
    const float *gate; /* [images, channels], or NULL for 1 */
    long channels, image_rows;
    int kind;
    float slope;
} Map;

/* The gradient of a map: `d` itself where there is no `offset`; else scale * g - offset - (map - mean) * tilt, where g is
   the gradient of z: `d` itself without `pooled`, else (d * gate + pooled) * activation'(z). */
typedef struct {
    const float *d;
    const float *offset, *tilt;
    const float *pooled; /* [images, channels] */
} Gradient;

INLINE void read_rows(int kind, const Map *m, const float *gate, long row, long count, float *out, long width)
{
    const long channels = m->channels;
    const float *restrict mean = m->mean, *restrict scale = m->scale, *restrict shift = m->shift;
    const float slope = m->slope;
    for (long r = 0; r < count; r++) {
        const float *restrict in = m->map + (row + r) * channels;
        float *restrict to = out + r * width;
        if (gate)
            SIMD for (long c = 0; c < channels; c++)
                to[c] = activate(kind, slope, (in[c] - mean[c]) * scale[c] + shift[c]) * gate[c];
        else
            SIMD for (long c = 0; c < channels; c++)
                to[c] = activate(kind, slope, (in[c] - mean[c]) * scale[c] + shift[c]);
    }
}

/* Rows [row, row + count), of one image where there is a gate, as their reader sees them; `width` floats apart. */
static inline void read_map(const Map *m, long row, long count, float *out, long width)
{
    const float *gate = m->gate ? m->gate + row / m->image_rows * m->channels : NULL;
    if (!m->mean) {
        for (long r = 0; r < count; r++)
            memcpy(out + r * width, m->map + (row + r) * m->channels, sizeof(float) * m->channels);
        return;
    }
#define CASE(KIND) read_rows(KIND, m, gate, row, count, out, width)
    FOR_KIND(m->kind, CASE)
#undef CASE
}

INLINE void gated_rows(int kind, const Map *m, const Gradient *g, long row, long count, float *out, long width)
{
    const long channels = m->channels, image = row / m->image_rows;
    const float *restrict mean = m->mean, *restrict scale = m->scale, *restrict shift = m->shift;
    const float *restrict gate = m->gate + image * channels, *restrict pooled = g->pooled + image * channels;
    const float *restrict offset = g->offset, *restrict tilt = g->tilt;
    for (long r = 0; r < count; r++) {
        const float *restrict in = m->map + (row + r) * channels, *restrict d = g->d + (row + r) * channels;
        float *restrict to = out + r * width;
        SIMD for (long c = 0; c < channels; c++) {
            const float apart = in[c] - mean[c];
            const float z = (d[c] * gate[c] + pooled[c]) * slope_at(kind, m->slope, apart * scale[c] + shift[c]);
            to[c] = scale[c] * z - offset[c] - apart * tilt[c];
        }
    }
}

/* Rows [row, row + count), of one image where there is a gate, of the gradient of a map; `width` floats apart. */
static inline void read_gradient(const Map *m, const Gradient *g, long row, long count, float *out, long width)
{
    const long channels = m->channels;
    if (g->pooled) {
#define CASE(KIND) gated_rows(KIND, m, g, row, count, out, width)
        FOR_KIND(m->kind, CASE)
#undef CASE
        return;
    }
    const float *restrict mean = m->mean, *restrict scale = m->scale;
    const float *restrict offset = g->offset, *restrict tilt = g->tilt;
    for (long r = 0; r < count; r++) {
        const float *restrict d = g->d + (row + r) * channels;
        float *restrict to = out + r * width;
        if (!offset) {
            memcpy(to, d, sizeof(float) * channels);
            continue;
        }
        const float *restrict in = m->map + (row + r) * channels;
        SIMD for (long c = 0; c < channels; c++)
            to[c] = scale[c] * d[c] - offset[c] - (in[c] - mean[c]) * tilt[c];
    }
}

#endif
