/* One query of several heads and many cached rows: which rows an indexer finds best, and attention over rows.

   Rows are taken sixteen at a time and turned on their side, so that a vector holds the same word of sixteen rows and
   sums need no folding. Up to eight heads share what is loaded. A row is a whole number of words. Only for processors
   with vectors of 512 bits: with half of their registers these loops lose to the library. */
#ifdef __AVX512F__
#include "loops.h"

#include <float.h>
#include <immintrin.h>
#include <math.h>

#define HEADS 8
#define BLOCK 256   /* rows whose weights are kept at a time */
#define PIECE 4096  /* keys that are scored at a time */
#define AHEAD 32    /* rows that are asked for before they are read */
#define FURTHER 4096 /* the same for keys, in bytes */

#define MEANT(words) _Pragma(#words)
#define UNROLL(times) MEANT(GCC unroll times)

#define SWAP(s)                                                                  \
    UNROLL(16) for (int one = 0; one < WORDS; one++) if (!(one & s)) {  \
        Words a = v[one], b = v[one + s];                                             \
        v[one] = SHUFFLED(a, b, FIRST_##s);                                           \
        v[one + s] = SHUFFLED(a, b, SECOND_##s);                                      \
    }
#define FIRST_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define SECOND_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#define FIRST_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define SECOND_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define FIRST_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define SECOND_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define FIRST_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define SECOND_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31

/* Words `at` to `at` + 15 of sixteen rows, turned: vector w holds word `at` + w of each. What lies behind a row's end
   counts as zero. */
static inline __attribute__((always_inline)) void turned(Words v[WORDS], const char *const *rows, int64_t at,
                                                         int64_t words) {
    if (at + WORDS <= words)
        for (int one = 0; one < WORDS; one++) v[one] = *(const LooseWords *)(rows[one] + 4 * at);
    else if (at + WORDS / 2 == words)
        for (int one = 0; one < WORDS; one++) v[one] = (Words){0}, memcpy(&v[one], rows[one] + 4 * at, 2 * WORDS);
    else
        for (int one = 0; one < WORDS; one++) {
            v[one] = (Words){0};
            memcpy(&v[one], rows[one] + 4 * at, (size_t)(4 * (words - at)));
        }
    SWAP(1) SWAP(2) SWAP(4) SWAP(8)
}

/* A query as `dots` reads it: number n of all `heads`, then number n + 1; zeros behind the last head and number. */
static void lay(float *laid, const float *q, int64_t heads, int64_t each, int64_t width, int64_t padded) {
    memset(laid, 0, sizeof(float) * (size_t)(padded * each));
    for (int64_t n = 0; n < width; n++)
        for (int64_t h = 0; h < heads; h++) laid[n * each + h] = q[h * width + n];
}

static inline __attribute__((always_inline)) void dots(Floats *sums, const char *const *rows, const float *laid,
                                                       int64_t words, int bits, int heads) {
    const int parts = 32 / bits;
    for (int h = 0; h < heads; h++) sums[h] = (Floats){0};
    for (int64_t at = 0; at < words; at += WORDS) {
        Words v[WORDS];
        turned(v, rows, at, words);
        UNROLL(16) for (int w = 0; w < WORDS; w++) {
            if (w == WORDS / 2 && at + w == words) break;
            UNROLL(2) for (int part = 0; part < parts; part++) {
                const float *by = laid + ((at + w) * parts + part) * heads;
                Floats number = PART(v[w], part, bits);
                UNROLL(8) for (int h = 0; h < heads; h++) sums[h] += number * by[h];
            }
        }
    }
}

/* The same of keys in bfloat16 with queries that are rounded to it, two numbers at once, where the processor can. */
static inline __attribute__((always_inline)) void dots_of_pairs(Floats *sums, const char *const *rows,
                                                                const uint16_t *laid, int64_t words, int heads) {
    for (int h = 0; h < heads; h++) sums[h] = (Floats){0};
    for (int64_t at = 0; at < words; at += WORDS) {
        Words v[WORDS];
        turned(v, rows, at, words);
        UNROLL(16) for (int w = 0; w < WORDS; w++) {
            if (w == WORDS / 2 && at + w == words) break;
            UNROLL(8) for (int h = 0; h < heads; h++) {
                uint32_t two;
                memcpy(&two, laid + ((at + w) * heads + h) * 2, 4);
#ifdef __AVX512BF16__
                const __m512bh by = (__m512bh)_mm512_set1_epi32((int)two);
                sums[h] = (Floats)_mm512_dpbf16_ps((__m512)sums[h], (__m512bh)v[w], by);
#else
                sums[h] += PART(v[w], 0, 16) * wide((uint16_t)two) + PART(v[w], 1, 16) * wide((uint16_t)(two >> 16));
#endif
            }
        }
    }
}

/* The same of keys in eight bits with queries in eight bits: exact, since these sums are small. `twice`: a row is two
   keys of eight words, and the sums of the second ones follow those of the first. */
static inline __attribute__((always_inline)) void dots_of_codes(Floats *sums, const char *const *rows,
                                                                const int8_t *laid, const int32_t *all, int64_t words,
                                                                int heads, int twice) {
#ifdef __AVX512VNNI__
    Ints found[2 * HEADS];
    for (int h = 0; h < heads << twice; h++) found[h] = (Ints){0} - 128 * all[h % heads];
    for (int64_t at = 0; at < words; at += WORDS) {
        Words v[WORDS];
        turned(v, rows, at, words);
        UNROLL(16) for (int w = 0; w < WORDS; w++) {
            if (w == WORDS / 2 && at + w == words) break;
            const int second = twice && w >= WORDS / 2;
            Words above = v[w] ^ 0x80808080u;
            UNROLL(8) for (int h = 0; h < heads; h++) {
                int32_t four;
                Ints *into = found + second * heads + h;
                memcpy(&four, laid + ((at + w - second * (WORDS / 2)) * heads + h) * 4, 4);
                *into = (Ints)_mm512_dpbusd_epi32((__m512i)*into, (__m512i)above, _mm512_set1_epi32(four));
            }
        }
    }
    for (int h = 0; h < heads << twice; h++) sums[h] = __builtin_convertvector(found[h], Floats);
#else
    (void)all;
    for (int h = 0; h < heads << twice; h++) sums[h] = (Floats){0};
    for (int64_t at = 0; at < words; at += WORDS) {
        Words v[WORDS];
        turned(v, rows, at, words);
        for (int w = 0; w < WORDS; w++)
            for (int part = 0; part < 4; part++) {
                const int second = twice && w >= WORDS / 2;
                const int8_t *by = laid + (at + w - second * (WORDS / 2)) * heads * 4 + part;
                Floats number = __builtin_convertvector((Ints)(v[w] << (24 - 8 * part)) >> 24, Floats);
                for (int h = 0; h < heads; h++) sums[second * heads + h] += number * (float)by[4 * h];
            }
    }
#endif
}

static inline void ask_for(const char *from, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(from + line);
}

static inline void sixteen(const char **found, const char *rows, int64_t stride, const int64_t *places, int64_t from,
                           int64_t count) {
    for (int64_t one = 0; one < WORDS; one++) {
        int64_t at = from + one < count ? from + one : count - 1;
        found[one] = rows + (places ? places[at] : at) * stride;
    }
}

/* One chunk of heads: see dsv4_attend. */
static inline __attribute__((always_inline)) void attend(float *out, const float *q, const char *rows, int bits,
                                                         int64_t stride, const int64_t *places, int64_t count,
                                                         int heads, int64_t width, int64_t value, float scale,
                                                         const float *sink, float *room) {
    const int parts = 32 / bits;
    const int64_t words = width / parts, span = WORDS * parts, chunks = (value + span - 1) / span;
    const int64_t padded = (words + WORDS - 1) / WORDS * WORDS * parts;
    float *laid = room, *made = room + padded * HEADS; /* made: [chunks, parts, HEADS, WORDS] */
    float top[HEADS], sum[HEADS], weights[HEADS][BLOCK];
    lay(laid, q, heads, HEADS, width, padded);
    memset(made, 0, sizeof(float) * (size_t)(chunks * span * HEADS));
    for (int h = 0; h < HEADS; h++) {
        int drained = sink != NULL && h < heads && sink[h] > -FLT_MAX;
        top[h] = drained ? sink[h] : -FLT_MAX, sum[h] = drained;
    }
    for (int64_t from = 0; from < count; from += BLOCK) {
        const int64_t here = count - from < BLOCK ? count - from : BLOCK;
        const char *found[BLOCK + WORDS];
        Floats best[HEADS];
        float shrink[HEADS];
        int changed = 0;
        for (int64_t at = 0; at < here; at += WORDS) sixteen(found + at, rows, stride, places, from + at, count);
        for (int h = 0; h < HEADS; h++) best[h] = (Floats){0} - FLT_MAX;
        for (int64_t at = 0; at < here; at += WORDS) {
            Floats sums[HEADS];
            for (int64_t soon = from + at + AHEAD; soon < from + at + AHEAD + WORDS && soon < here && !from; soon++)
                ask_for(found[soon], 4 * words);
            dots(sums, found + at, laid, words, bits, HEADS);
            for (int h = 0; h < HEADS; h++) {
                *(LooseFloats *)(weights[h] + at) = sums[h] * scale;
                best[h] = most(best[h], sums[h] * scale);
            }
        }
        for (int h = 0; h < HEADS; h++) {
            float highest = top[h];
            for (int one = 0; one < WORDS; one++) highest = best[h][one] > highest ? best[h][one] : highest;
            shrink[h] = top[h] > -FLT_MAX ? expf(top[h] - highest) : 0.0f;
            changed |= highest > top[h];
            top[h] = highest;
            Floats added = {0};
            for (int64_t at = 0; at < here; at += WORDS) {
                Floats power = exponential(*(LooseFloats *)(weights[h] + at) - highest);
                if (at + WORDS > here)
                    for (int64_t one = here - at; one < WORDS; one++) power[one] = 0;
                *(LooseFloats *)(weights[h] + at) = power;
                added += power;
            }
            sum[h] = sum[h] * shrink[h] + total(added);
        }
        for (int64_t chunk = 0; chunk < chunks; chunk++) {
            float *mine = made + chunk * span * HEADS;
            Floats held[2][HEADS];
            for (int part = 0; part < parts; part++)
                for (int h = 0; h < HEADS; h++) {
                    held[part][h] = *(LooseFloats *)(mine + (part * HEADS + h) * WORDS);
                    if (changed) held[part][h] *= shrink[h];
                }
            const int64_t rest = words - chunk * WORDS;
            for (int64_t one = 0; one < here; one++) {
                const int64_t soon = from + BLOCK + one; /* the next block is asked for while this one is summed */
                if (one % chunks == chunk && soon < count)
                    ask_for(rows + (places ? places[soon] : soon) * stride, 4 * words);
                Words v = {0};
                if (rest >= WORDS) v = *(const LooseWords *)(found[one] + 4 * chunk * WORDS);
                else memcpy(&v, found[one] + 4 * chunk * WORDS, (size_t)(4 * rest));
                UNROLL(2) for (int part = 0; part < parts; part++) {
                    Floats number = PART(v, part, bits);
                    UNROLL(8) for (int h = 0; h < HEADS; h++) held[part][h] += number * weights[h][one];
                }
            }
            for (int part = 0; part < parts; part++)
                for (int h = 0; h < HEADS; h++) *(LooseFloats *)(mine + (part * HEADS + h) * WORDS) = held[part][h];
        }
    }
    for (int h = 0; h < heads; h++)
        for (int64_t n = 0; n < value; n++) {
            int64_t chunk = n / span, word = n % span / parts, part = n % parts;
            out[h * value + n] = made[((chunk * parts + part) * HEADS + h) * WORDS + word] / sum[h];
        }
}

/* out [heads, value] = softmax(q · rows · scale, and the sink) times the first `value` numbers of rows: of `count`
   rows from the first on, or at `places`. Rows are float (bits 32) or bfloat16 (16), `stride` bytes apart, `width` numbers
   wide. 0, or 1 where memory ran out. */
int dsv4_attend(float *out, const float *q, const void *rows, int bits, int64_t stride, const int64_t *places,
                int64_t count, int64_t heads, int64_t width, int64_t value, float scale, const float *sink) {
    float *room = malloc(sizeof(float) * (size_t)(2 * (width + 64) * HEADS));
    if (room == NULL) return 1;
    for (int64_t first = 0; first < heads; first += HEADS) {
        int now = (int)(heads - first < HEADS ? heads - first : HEADS);
        const float *drain = sink ? sink + first : NULL;
        if (bits == 16)
            attend(out + first * value, q + first * width, rows, 16, stride, places, count, now, width, value, scale,
                   drain, room);
        else
            attend(out + first * value, q + first * width, rows, 32, stride, places, count, now, width, value, scale,
                   drain, room);
    }
    free(room);
    return 0;
}

/* What has been found so far: orders, and places in ascending order. */
typedef struct {
    uint32_t *orders;
    int32_t *places;
    int64_t held;
} Found;

/* Unsigned integers in the order of the numbers; minus zero counts as zero. */
static inline Words order_of(Floats given) {
    Words bits = (Words)(given + 0.0f), negative = (Words)((Ints)bits >> 31);
    return bits ^ (negative | 0x80000000u);
}

static inline float number_at(uint32_t order) {
    uint32_t bits = order & 0x80000000u ? order & 0x7fffffffu : ~order;
    float made;
    memcpy(&made, &bits, 4);
    return made;
}

/* Add those of sixteen that `keep` flags; what is written behind them does not count. */
static inline void add(Found *found, Words orders, Ints places, __mmask16 keep) {
    _mm512_storeu_si512(found->orders + found->held, _mm512_maskz_compress_epi32(keep, (__m512i)orders));
    _mm512_storeu_si512(found->places + found->held, _mm512_maskz_compress_epi32(keep, (__m512i)places));
    found->held += __builtin_popcount(keep);
}

/* The k-th largest of n orders; `some` has room for them and a vector more. */
static uint32_t kth(const uint32_t *orders, int64_t n, int64_t k, uint32_t *some) {
    const int shifts[] = {21, 10, 0}, widths[] = {11, 11, 10};
    uint32_t done = 0;
    for (int round = 0; round < 3; round++) {
        const int shift = shifts[round];
        const uint32_t *from = round ? some : orders;
        uint32_t counts[2048] = {0}, mask = (1u << widths[round]) - 1, bin = mask;
        for (int64_t one = 0; one < n; one++) counts[(from[one] >> shift) & mask]++;
        for (; counts[bin] < k; bin--) k -= counts[bin];
        int64_t kept = 0;
        for (int64_t one = 0; one < n; one += WORDS) {
            __m512i all = _mm512_loadu_si512(from + one), own = (__m512i)(((Words)all >> shift) & mask);
            __mmask16 same = _mm512_cmpeq_epi32_mask(own, _mm512_set1_epi32((int)bin));
            if (one + WORDS > n) same &= (__mmask16)((1u << (n - one)) - 1);
            _mm512_storeu_si512(some + kept, _mm512_maskz_compress_epi32(same, all));
            kept += __builtin_popcount(same);
        }
        n = kept, done |= bin << shift;
    }
    return done;
}

/* Keep the k best in their order of place; of equal ones the later. Returns the order of the least. */
static uint32_t keep_best(Found *found, int64_t k, uint32_t *some) {
    const int64_t n = found->held;
    const uint32_t least = kth(found->orders, n, k, some);
    const __m512i border = _mm512_set1_epi32((int)least);
    int64_t above = 0, level = 0;
    for (int64_t one = 0; one < n; one++) above += found->orders[one] > least, level += found->orders[one] == least;
    int64_t skip = level - (k - above);
    found->held = 0;
    for (int64_t one = 0; one < n; one += WORDS) {
        const __m512i orders = _mm512_loadu_si512(found->orders + one);
        const __m512i places = _mm512_loadu_si512(found->places + one);
        const __mmask16 real = one + WORDS > n ? (__mmask16)((1u << (n - one)) - 1) : (__mmask16)0xffff;
        __mmask16 keep = _mm512_cmpge_epu32_mask(orders, border) & real;
        __mmask16 equal = _mm512_cmpeq_epi32_mask(orders, border) & real;
        for (; skip > 0 && equal; skip--) keep &= ~(equal & -equal), equal &= equal - 1;
        add(found, (Words)orders, (Ints)places, keep);
    }
    return least;
}

static inline __attribute__((always_inline)) void score(float *scores, int64_t from, int64_t stop, int64_t count,
                                                        const char *keys, int bits, int64_t stride, int64_t words,
                                                        const void *laid, const int32_t *all, const float *weights,
                                                        int heads, int further) {
    int64_t at = from;
    for (; bits == 8 && words == WORDS / 2 && stride == 2 * WORDS && at + 2 * WORDS <= stop; at += 2 * WORDS) {
        const char *rows[WORDS];
        Floats sums[2 * HEADS], first = {0}, second = {0};
        LooseFloats *out = (LooseFloats *)(scores + at - from);
        ask_for(keys + (at + FURTHER / stride) * stride, 2 * WORDS * stride);
        sixteen(rows, keys, 2 * stride, NULL, at / 2, count / 2);
        dots_of_codes(sums, rows, laid, all, WORDS, heads, 1);
        for (int h = 0; h < heads; h++) first += most(sums[h], (Floats){0}) * weights[h];
        for (int h = 0; h < heads; h++) second += most(sums[heads + h], (Floats){0}) * weights[h];
        Floats low = SHUFFLED(first, second, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        Floats high = SHUFFLED(first, second, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        if (further) low += out[0], high += out[1];
        out[0] = low, out[1] = high;
    }
    for (; at < stop; at += WORDS) {
        const char *rows[WORDS];
        Floats sums[HEADS], made = {0};
        ask_for(keys + (at + FURTHER / stride) * stride, WORDS * stride);
        sixteen(rows, keys, stride, NULL, at, count);
        if (bits == 8) dots_of_codes(sums, rows, laid, all, words, heads, 0);
        else if (bits == 16) dots_of_pairs(sums, rows, laid, words, heads);
        else dots(sums, rows, laid, words, 32, heads);
        for (int h = 0; h < heads; h++) made += most(sums[h], (Floats){0}) * weights[h];
        if (further) made += *(LooseFloats *)(scores + at - from);
        *(LooseFloats *)(scores + at - from) = made;
    }
}

static void score_piece(float *scores, int64_t from, int64_t stop, int64_t count, const char *keys, int bits,
                        int64_t stride, int64_t words, const void *laid, const int32_t *all, const float *weights,
                        int heads, int further) {
#define SCORE(b, h) score(scores, from, stop, count, keys, b, stride, words, laid, all, weights, h, further)
    if (bits == 8 && heads == 4) SCORE(8, 4);
    else if (bits == 8) SCORE(8, 8);
    else if (bits == 16 && heads == 4) SCORE(16, 4);
    else if (bits == 16) SCORE(16, 8);
    else if (heads == 4) SCORE(32, 4);
    else SCORE(32, 8);
}

/* Places [k] of the best of `count` keys by sum over heads of weight · ReLU(query · key), in order of place, of equal
   scores the later; and the scores themselves [count] where `scores` is not NULL. Keys are float, bfloat16, or int8
   codes (bits 8) whose `scales` multiply the score; queries are rounded to the format of the keys, or put into eight
   bits too. count is at least k and below
   2^31. 0, or 1 where memory ran out. */
int dsv4_choose(int64_t *places, float *scores, const float *q, const float *weights, const void *keys, int bits,
                int64_t stride, const float *scales, int64_t count, int64_t heads, int64_t size, int64_t k) {
    const int parts = 32 / bits;
    const int64_t words = size / parts, padded = (words + WORDS - 1) / WORDS * WORDS * parts;
    const int each = heads <= 4 ? 4 : HEADS; /* heads of a chunk */
    const int64_t chunks = (heads + each - 1) / each, step = padded * each;
    const size_t room = (size_t)(k + 2 * PIECE + WORDS);
    float *laid = calloc((size_t)(chunks * step), sizeof(float));
    float *by = calloc((size_t)(chunks * each), sizeof(float)), *piece = malloc(sizeof(float) * (PIECE + WORDS));
    int32_t *all = calloc((size_t)(chunks * each), sizeof(int32_t));
    uint32_t *some = malloc(4 * room);
    Found found = {malloc(4 * room), malloc(4 * room), 0};
    const int failed = !laid || !by || !piece || !all || !some || !found.orders || !found.places;
    for (int64_t h = 0; h < heads && !failed; h++) {
        float peak = 1e-12f, root = sqrtf((float)(heads * size));
        for (int64_t n = 0; n < size; n++) peak = fabsf(q[h * size + n]) > peak ? fabsf(q[h * size + n]) : peak;
        const float scale = peak / 127;
        by[h] = weights[h] / root * (bits == 8 ? scale : 1.0f);
        float *mine = laid + h / each * step;
        for (int64_t n = 0; n < size; n++)
            if (bits == 8) {
                int8_t code = (int8_t)rintf(q[h * size + n] / scale);
                ((int8_t *)mine)[(n / 4 * each + h % each) * 4 + n % 4] = code;
                all[h] += code;
            } else if (bits == 16)
                ((uint16_t *)mine)[(n / 2 * each + h % each) * 2 + n % 2] = narrow(q[h * size + n]);
            else
                mine[n * each + h % each] = q[h * size + n];
    }
    const Ints steps = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    uint32_t least = 0;
    for (int64_t from = 0; from < count && !failed; from += PIECE) {
        const int64_t stop = count - from < PIECE ? count : from + PIECE;
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            score_piece(piece, from, stop, count, keys, bits, stride, words, laid + chunk * step, all + chunk * each,
                        by + chunk * each, each, chunk > 0);
        if (bits == 8)
            for (int64_t at = from; at < stop; at++) piece[at - from] *= scales[at];
        if (scores) memcpy(scores + from, piece, sizeof(float) * (size_t)(stop - from));
        if (!places) continue;
        const Floats low = (Floats){0} + (least ? number_at(least) : -INFINITY);
        for (int64_t at = 0; at < stop - from; at += WORDS) {
            const Floats here = *(LooseFloats *)(piece + at); /* what is no number stays, so that there are k */
            __mmask16 keep = _mm512_cmp_ps_mask((__m512)here, (__m512)low, _CMP_NLT_UQ);
            if (at + WORDS > stop - from) keep &= (__mmask16)((1u << (stop - from - at)) - 1);
            if (keep) add(&found, order_of(here), steps + (int32_t)(from + at), keep);
        }
        if (found.held > k + PIECE) least = keep_best(&found, k, some);
    }
    if (places && !failed) {
        if (found.held > k) keep_best(&found, k, some);
        for (int64_t one = 0; one < k; one++) places[one] = found.places[one];
    }
    free(laid), free(by), free(piece), free(all), free(some), free(found.orders), free(found.places);
    return failed;
}
#endif
