/* The parts of a block for one decoded token: residual lanes, what attention needs and leaves, experts.

   Weights are read as they lie (see Matrix), everything between them is float. Orders of operations are those of
   dsv4/core: hyper.py, latent.py, attention.py, indexer.py, moe.py. */
#ifdef __AVX512F__
#include "loops.h"

#include <math.h>

typedef struct {
    Matrix fn, base, scale, norm;
    int64_t lanes, width, iterations;
    float eps, norm_eps, site_eps;
} Lanes;

typedef struct {
    Matrix query_down, query_norm, query_up, entry, entry_norm, unfold, out, index_query, index_key, index_weights,
        index_norm, index_bias;
    const Matrix *groups;
    int64_t folded, heads, plain, rotated, value, size, group_count, index_heads, index_size, index_rotated;
    float eps, inner_eps;
} Attention;

typedef struct {
    Matrix gate, up, down;
} Unit;

typedef struct {
    Matrix router, bias;
    Unit shared;
    const Unit *units;
    int64_t count, chosen, groups, groups_chosen, score, normalised;
    float scale, limit;
} Experts;

enum { SOFTMAX, SIGMOID, SQRTSOFTPLUS };

static int product(float *y, const Matrix *m, const float *x, int threads) {
    return dsv4_times(m->bits, y, m->data, m->scales, m->half, x, 1, m->rows, m->columns, m->group,
                      m->rows * m->columns >= 1 << 20 ? threads : 1);
}

static inline float at(const Matrix *m, int64_t place) {
    return m->bits == 16 ? wide(((const uint16_t *)m->data)[place]) : ((const float *)m->data)[place];
}

/* y = x / sqrt(mean(x^2) + eps), times the weight where there is one. */
static void normalise(float *y, const float *x, int64_t n, const Matrix *weight, float eps) {
    float squares = 0;
    Floats sums = {0};
    int64_t whole = n / WORDS * WORDS;
    for (int64_t one = 0; one < whole; one += WORDS) {
        Floats v = *(const LooseFloats *)(x + one);
        sums += v * v;
    }
    squares = total(sums);
    for (int64_t one = whole; one < n; one++) squares += x[one] * x[one];
    const float by = 1.0f / sqrtf(squares / (float)n + eps);
    if (weight == NULL || weight->data == NULL)
        for (int64_t one = 0; one < n; one++) y[one] = x[one] * by;
    else if (weight->bits == 16)
        for (int64_t one = 0; one < n; one++) y[one] = x[one] * by * wide(((const uint16_t *)weight->data)[one]);
    else
        for (int64_t one = 0; one < n; one++) y[one] = x[one] * by * ((const float *)weight->data)[one];
}

/* Pairs (2p, 2p + 1) of x turned by angle p, back where `sign` is -1. */
static void turn(float *x, const float *cos, const float *sin, int64_t pairs, float sign) {
    for (int64_t p = 0; p < pairs; p++) {
        float even = x[2 * p], odd = x[2 * p + 1], s = sin[p] * sign;
        x[2 * p] = even * cos[p] - odd * s, x[2 * p + 1] = even * s + odd * cos[p];
    }
}

/* Pairs (p, p + pairs). */
static void turn_halves(float *x, const float *cos, const float *sin, int64_t pairs) {
    for (int64_t p = 0; p < pairs; p++) {
        float first = x[p], second = x[p + pairs];
        x[p] = first * cos[p] - second * sin[p], x[p + pairs] = second * cos[p] + first * sin[p];
    }
}

static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

void dsv4_norm(float *y, const float *x, const Matrix *weight, int64_t n, float eps) {
    normalise(y, x, n, weight, eps);
}

/* into [width]: what the site works on, after its norm; post [lanes] and comb [lanes, lanes] for dsv4_lanes_write. */
int dsv4_lanes_read(const Lanes *part, const float *x, float *into, float *post, float *comb) {
    const int64_t n = part->lanes, all = n * part->width;
    float mixes[n * (n + 2)], squares = 0;
    for (int64_t one = 0; one < all; one += WORDS) {
        Floats v = {0};
        memcpy(&v, x + one, sizeof(float) * (size_t)(all - one < WORDS ? all - one : WORDS));
        squares += total(v * v);
    }
    if (product(mixes, &part->fn, x, 1)) return 1;
    const float norm = 1.0f / sqrtf(squares / (float)all + part->norm_eps);
    for (int64_t m = 0; m < n * (n + 2); m++)
        mixes[m] = mixes[m] * norm * at(&part->scale, m / n < 2 ? m / n : 2) + at(&part->base, m);
    memset(into, 0, sizeof(float) * (size_t)part->width);
    for (int64_t lane = 0; lane < n; lane++) {
        const float pre = sigmoid(mixes[lane]) + part->eps;
        for (int64_t one = 0; one < part->width; one++) into[one] += pre * x[lane * part->width + one];
        post[lane] = 2.0f * sigmoid(mixes[n + lane]);
    }
    normalise(into, into, part->width, &part->norm, part->site_eps);
    for (int64_t row = 0; row < n; row++) {
        float *out = comb + row * n, *from = mixes + 2 * n + row * n, top = from[0], sum = 0;
        for (int64_t c = 1; c < n; c++) top = from[c] > top ? from[c] : top;
        for (int64_t c = 0; c < n; c++) out[c] = expf(from[c] - top), sum += out[c];
        for (int64_t c = 0; c < n; c++) out[c] = out[c] / sum + part->eps;
    }
    for (int64_t step = 0; step < part->iterations; step++) {
        for (int64_t row = 0; step && row < n; row++) {
            float sum = part->eps;
            for (int64_t c = 0; c < n; c++) sum += comb[row * n + c];
            for (int64_t c = 0; c < n; c++) comb[row * n + c] /= sum;
        }
        for (int64_t c = 0; c < n; c++) {
            float sum = part->eps;
            for (int64_t row = 0; row < n; row++) sum += comb[row * n + c];
            for (int64_t row = 0; row < n; row++) comb[row * n + c] /= sum;
        }
    }
    return 0;
}

/* Lane k becomes post_k * y + sum over j of comb[j, k] * lane j, in place. */
void dsv4_lanes_write(float *x, const float *y, const float *post, const float *comb, int64_t lanes, int64_t width) {
    for (int64_t one = 0; one < width; one++) {
        float made[lanes];
        for (int64_t k = 0; k < lanes; k++) {
            made[k] = post[k] * y[one];
            for (int64_t j = 0; j < lanes; j++) made[k] += comb[j * lanes + k] * x[j * width + one];
        }
        for (int64_t k = 0; k < lanes; k++) x[k * width + one] = made[k];
    }
}

/* y [columns] = sum of c[i] times row first + i of floats or bfloat16. */
static void add_rows(float *restrict y, const Matrix *m, int64_t first, const float *restrict c, int64_t n) {
    const int64_t width = m->columns;
    memset(y, 0, sizeof(float) * (size_t)width);
    for (int64_t row = 0; row < n; row++)
        if (m->bits == 16) {
            const uint16_t *from = (const uint16_t *)m->data + (first + row) * width;
            for (int64_t one = 0; one < width; one++) y[one] += c[row] * wide(from[one]);
        } else {
            const float *from = (const float *)m->data + (first + row) * width;
            for (int64_t one = 0; one < width; one++) y[one] += c[row] * from[one];
        }
}

/* Queries q [heads, size] as entries are read with, the token's entry [size], and the indexer's key, and where `query`
   is not NULL its queries and head weights. cos and sin are of this position, for entries and for the indexer. */
int dsv4_attention_into(const Attention *part, const float *x, const float *cos, const float *sin,
                        const float *index_cos, const float *index_sin, float *q, float *entry, float *key,
                        float *query, float *weights, int threads) {
    const int64_t pairs = part->rotated / 2, whole = part->plain + part->rotated;
    const int64_t rank = part->query_down.data ? part->query_down.rows : 0;
    float latent[rank + 1], raw[part->folded ? part->heads * whole : 1];
    const float *from = x;
    int wrong = 0;
    if (rank) {
        wrong |= product(latent, &part->query_down, x, threads);
        normalise(latent, latent, rank, &part->query_norm, part->inner_eps);
        from = latent;
    }
    wrong |= product(part->folded ? raw : q, &part->query_up, from, threads);
    wrong |= product(entry, &part->entry, x, threads);
    if (part->folded) {
        const int64_t kept = part->size - part->rotated;
        for (int64_t h = 0; h < part->heads; h++) {
            float *own = raw + h * whole, *out = q + h * part->size;
            turn(own + part->plain, cos, sin, pairs, 1);
            add_rows(out, &part->unfold, h * (part->plain + part->value), own, part->plain);
            memcpy(out + kept, own + part->plain, sizeof(float) * (size_t)part->rotated);
        }
        normalise(entry, entry, kept, &part->entry_norm, part->inner_eps);
    } else {
        for (int64_t h = 0; h < part->heads; h++) {
            float *own = q + h * part->size;
            if (part->eps > 0) normalise(own, own, part->size, NULL, part->eps);
            turn(own + part->size - part->rotated, cos, sin, pairs, 1);
        }
        normalise(entry, entry, part->size, &part->entry_norm, part->inner_eps);
    }
    turn(entry + part->size - part->rotated, cos, sin, pairs, 1);
    if (key == NULL) return wrong;
    const int64_t size = part->index_size, turned = part->index_rotated;
    wrong |= product(key, &part->index_key, x, threads);
    float mean = 0, squares = 0;
    for (int64_t one = 0; one < size; one++) mean += key[one] / (float)size;
    for (int64_t one = 0; one < size; one++) squares += (key[one] - mean) * (key[one] - mean);
    const float by = 1.0f / sqrtf(squares / (float)size + 1e-6f);
    for (int64_t one = 0; one < size; one++)
        key[one] = (key[one] - mean) * by * at(&part->index_norm, one) + at(&part->index_bias, one);
    if (query) {
        wrong |= product(query, &part->index_query, latent, threads);
        wrong |= product(weights, &part->index_weights, x, threads);
    }
    for (int64_t h = 0; h <= (query ? part->index_heads : 0); h++) {
        float *own = h ? query + (h - 1) * size : key;
        if (part->folded) turn_halves(own, index_cos, index_sin, turned / 2);
        else turn(own + size - turned, index_cos, index_sin, turned / 2, 1);
    }
    return wrong;
}

/* y: the output of attention from what the heads have read, which is overwritten. */
int dsv4_attention_out(const Attention *part, float *read, const float *cos, const float *sin, float *y, int threads) {
    int wrong = 0;
    if (part->folded) {
        const int64_t kept = part->size - part->rotated;
        float values[part->heads * part->value];
        for (int64_t h = 0; h < part->heads; h++) {
            Matrix own = part->unfold;
            own.rows = part->value;
            const int64_t first = h * (part->plain + part->value) + part->plain;
            own.data = (const char *)own.data + first * own.columns * own.bits / 8;
            wrong |= product(values + h * part->value, &own, read + h * kept, threads);
        }
        return wrong | product(y, &part->out, values, threads);
    }
    float low[part->out.columns];
    for (int64_t h = 0; h < part->heads; h++)
        turn(read + (h + 1) * part->size - part->rotated, cos, sin, part->rotated / 2, -1);
    for (int64_t g = 0, done = 0; g < part->group_count; done += part->groups[g].rows, g++)
        wrong |= product(low + done, part->groups + g, read + g * part->groups[g].columns, threads);
    return wrong | product(y, &part->out, low, threads);
}

/* y += by * down(SiLU(gate(x)) * up(x)). */
static int unit(float *y, const Unit *part, const float *x, float by, float limit, int threads) {
    const int64_t inner = part->gate.rows, padded = (inner + WORDS - 1) / WORDS * WORDS, out = part->down.rows;
    float *gate = malloc(sizeof(float) * (size_t)(2 * padded + out));
    if (gate == NULL) return 1;
    float *up = gate + padded, *made = up + padded;
    int wrong = product(gate, &part->gate, x, threads) | product(up, &part->up, x, threads);
    if (limit > 0)
        for (int64_t one = 0; one < inner; one++) {
            gate[one] = gate[one] > limit ? limit : gate[one];
            up[one] = up[one] > limit ? limit : up[one] < -limit ? -limit : up[one];
        }
    for (int64_t one = inner; one < padded; one++) gate[one] = up[one] = 0;
    for (int64_t one = 0; one < padded; one += WORDS) {
        Floats g = *(LooseFloats *)(gate + one), u = *(LooseFloats *)(up + one);
        Floats size = most(g, -g), power = exponential(-size);
        Ints above = g > 0.0f;
        Floats over = (Floats)(((Ints)((Floats){0} + 1.0f) & above) | ((Ints)power & ~above));
        *(LooseFloats *)(gate + one) = g * over / (power + 1.0f) * u;
    }
    wrong |= product(made, &part->down, gate, threads);
    for (int64_t one = 0; one < out; one++) y[one] += by * made[one];
    free(gate);
    return wrong;
}

/* The best `k` of n numbers get their flag set, of equal ones the earlier. */
static void flag_best(uint8_t *flags, const float *numbers, int64_t n, int64_t k) {
    memset(flags, 0, (size_t)n);
    for (int64_t round = 0; round < k; round++) {
        int64_t best = -1;
        for (int64_t one = 0; one < n; one++)
            if (!flags[one] && (best < 0 || numbers[one] > numbers[best])) best = one;
        if (best >= 0) flags[best] = 1;
    }
}

/* y [width]; load [count] is one where an expert was chosen, `balance` the balance loss. `route` names the chosen
   experts where the layer goes by token id. */
int dsv4_experts(const Experts *part, const float *x, const int64_t *route, float *y, float *load, float *balance,
                 int threads) {
    const int64_t n = part->count;
    memset(y, 0, sizeof(float) * (size_t)part->shared.down.rows);
    int wrong = unit(y, &part->shared, x, 1.0f, part->limit, threads);
    if (n == 0) return wrong;
    float scores[n], ranked[n], sum = 0, kept = 0;
    uint8_t chosen[n], open[n];
    wrong |= product(scores, &part->router, x, 1);
    float top = scores[0];
    for (int64_t e = 0; e < n; e++) top = scores[e] > top ? scores[e] : top;
    for (int64_t e = 0; e < n; e++) {
        const float v = scores[e];
        if (part->score == SOFTMAX) scores[e] = expf(v - top);
        else if (part->score == SIGMOID) scores[e] = sigmoid(v);
        else scores[e] = sqrtf((v > 0 ? v : 0) + log1pf(expf(-fabsf(v))) + 1e-20f);
        sum += scores[e];
    }
    for (int64_t e = 0; e < n; e++) {
        if (part->score == SOFTMAX) scores[e] /= sum;
        ranked[e] = scores[e] + (part->bias.data ? at(&part->bias, e) : 0.0f);
    }
    if (part->score == SOFTMAX) sum = 1;
    if (route) {
        memset(chosen, 0, (size_t)n);
        for (int64_t one = 0; one < part->chosen; one++) chosen[route[one]] = 1;
    } else {
        const int64_t each = n / part->groups;
        float best[part->groups];
        for (int64_t g = 0; part->groups > 1 && g < part->groups; g++) {
            float first = -INFINITY, second = -INFINITY;
            for (int64_t e = g * each; e < (g + 1) * each; e++) {
                if (ranked[e] > first) second = first, first = ranked[e];
                else if (ranked[e] > second) second = ranked[e];
            }
            best[g] = part->score == SOFTMAX || each == 1 ? first : first + second;
        }
        if (part->groups > 1) {
            flag_best(open, best, part->groups, part->groups_chosen);
            for (int64_t e = 0; e < n; e++)
                if (!open[e / each]) ranked[e] = -INFINITY;
        }
        flag_best(chosen, ranked, n, part->chosen);
    }
    for (int64_t e = 0; e < n; e++) load[e] = chosen[e], kept += chosen[e] ? scores[e] : 0;
    const float by = part->normalised ? part->scale / (kept + 1e-20f) : part->scale;
    for (int64_t e = 0; e < n; e++)
        if (chosen[e]) wrong |= unit(y, part->units + e, x, scores[e] * by, part->limit, threads);
    *balance = kept / sum * (float)n / (float)part->chosen;
    return wrong;
}
#endif
