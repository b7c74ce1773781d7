/* Products of few vectors with a matrix whose rows are bfloat16, or integers of eight or four bits with a scale a group.

   A row is a line of 32-bit words, the first number in the lowest bits. Sixteen words are taken at once, and the vector
   is laid out once so that what meets number s of those words lies together. Shifting is saved by leaving a code where
   it is and dividing the vector by that power of two, which is exact. Four rows share the vector; the rows after the
   next ones are asked for in advance, since rows are too short for the machine to see them coming. */
#include "loops.h"

#include <math.h>
#ifdef __AVX512VNNI__
#include <immintrin.h>
#endif

#define AHEAD 8

static inline float number_of(uint32_t bits) {
    float made;
    memcpy(&made, &bits, 4);
    return made;
}

static inline float scale_at(const void *scales, int64_t place, int half) {
    return half ? wide(((const uint16_t *)scales)[place]) : ((const float *)scales)[place];
}

/* Number s of each word, times 2^(bits * s) but for the last: what `lay` divides by. */
#define CODE(w, s, bits)                                                                       \
    ((s) + 1 == 32 / (bits) ? (Ints)((w) >> (32 - (bits)))                                     \
                            : (Ints)((w) & (((1u << (bits)) - 1u) << ((bits) * (s)))))
#define NUMBER(w, s, bits)                                                                     \
    ((bits) == 32   ? (Floats)(w)                                                              \
     : (bits) == 16 ? (Floats)((s) ? (w) & 0xffff0000u : (w) << 16)                            \
                    : __builtin_convertvector(CODE(w, s, (bits) < 16 ? (bits) : 16), Floats))

/* The scales of the groups that lie in one stretch of sixteen words, each over its own words. */
static inline Floats spread(const void *scales, int64_t place, int half, int64_t parts) {
    const Ints upper = {0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1};
    if (parts == 1) return (Floats){0} + scale_at(scales, place, half);
    if (parts == 2) {
        Floats first = (Floats){0} + scale_at(scales, place, half);
        Floats second = (Floats){0} + scale_at(scales, place + 1, half);
        return (Floats)(((Ints)first & ~upper) | ((Ints)second & upper));
    }
    Floats made;
    for (int one = 0; one < WORDS; one++) made[one] = scale_at(scales, place + one * parts / WORDS, half);
    return made;
}

/* Of four rows: the sum over groups of scale times sum of codes times x. A group is `run` stretches of sixteen words, or
   one stretch has `parts` groups. Sums begin at `start`, which takes back what the codes' offset will add. Columns behind
   the last whole stretch are added one by one. */
#define ADD(r, bits) t##r += NUMBER(v##r, s, bits) * xs
#define FOUR_ROWS(name, bits)                                                                                      \
    static void name(float *y, const uint32_t *words, const void *scales, int half, const float *laid,             \
                     const float *start, const float *x, int64_t n, int64_t k, int64_t group, int threads) {       \
        const int each = 32 / bits, stretch = WORDS * each;                                                        \
        const int64_t groups = bits >= 16 ? 0 : k / group, width = k / each;                                       \
        const int64_t run = group >= stretch ? group / stretch : 1, parts = group >= stretch ? 1 : stretch / group; \
        const int64_t whole = k / stretch;                                                                         \
        _Pragma("omp parallel for num_threads(threads) if (threads > 1)")                                          \
        for (int64_t next = 0; next < n; next += 4) {                                                              \
            const int64_t row = next + 4 <= n ? next : n - 4; /* the last four rows may begin among earlier ones */ \
            const uint32_t *w0 = words + row * width, *w1 = w0 + width, *w2 = w1 + width, *w3 = w2 + width;        \
            Floats a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};                                                         \
            for (int64_t b = 0, g = 0; b < whole; b += run, g += parts) {                                          \
                Floats t0 = *(const LooseFloats *)(start + b / run * WORDS), t1 = t0, t2 = t0, t3 = t0;            \
                for (int64_t at = b * WORDS; at < (b + run) * WORDS; at += WORDS) {                                \
                    Words v0 = *(const LooseWords *)(w0 + at), v1 = *(const LooseWords *)(w1 + at);                \
                    Words v2 = *(const LooseWords *)(w2 + at), v3 = *(const LooseWords *)(w3 + at);                \
                    __builtin_prefetch(w0 + at + AHEAD * width);                                                   \
                    __builtin_prefetch(w1 + at + AHEAD * width);                                                   \
                    __builtin_prefetch(w2 + at + AHEAD * width);                                                   \
                    __builtin_prefetch(w3 + at + AHEAD * width);                                                   \
                    _Pragma("GCC unroll 8")                                                                        \
                    for (int s = 0; s < each; s++) {                                                               \
                        Floats xs = *(const LooseFloats *)(laid + at * each + s * WORDS);                          \
                        ADD(0, bits), ADD(1, bits), ADD(2, bits), ADD(3, bits);                                    \
                    }                                                                                              \
                }                                                                                                  \
                if (bits >= 16) {                                                                                  \
                    a0 += t0, a1 += t1, a2 += t2, a3 += t3;                                                        \
                    continue;                                                                                      \
                }                                                                                                  \
                a0 += t0 * spread(scales, row * groups + g, half, parts);                                          \
                a1 += t1 * spread(scales, (row + 1) * groups + g, half, parts);                                    \
                a2 += t2 * spread(scales, (row + 2) * groups + g, half, parts);                                    \
                a3 += t3 * spread(scales, (row + 3) * groups + g, half, parts);                                    \
            }                                                                                                      \
            y[row] = total(a0), y[row + 1] = total(a1);                                                            \
            y[row + 2] = total(a2), y[row + 3] = total(a3);                                                        \
            for (int64_t c = whole * stretch; c < k; c++)                                                          \
                for (int r = 0; r < 4; r++) {                                                                      \
                    uint32_t word = words[(row + r) * width + c / each];                                           \
                    if (bits >= 16) {                                                                              \
                        y[row + r] += number_of(bits == 32 ? word : word >> (16 * (c % 2)) << 16) * x[c];          \
                        continue;                                                                                  \
                    }                                                                                              \
                    int32_t code = (int32_t)((word >> (bits * (c % each))) & ((1u << (bits & 15)) - 1u));          \
                    y[row + r] += (float)(code - (1 << ((bits - 1) & 15))) * x[c]                                         \
                        * scale_at(scales, (row + r) * groups + c / group, half);                                  \
                }                                                                                                  \
        }                                                                                                          \
    }

FOUR_ROWS(floats, 32)
FOUR_ROWS(sixteen_bits, 16)
FOUR_ROWS(eight_bits, 8)
FOUR_ROWS(four_bits, 4)

/* One vector as the loops above read it, and what their sums begin at: minus the codes' offset times the sum of x over
   each group, shared out among the words of a stretch that the group has. */
static void lay(float *laid, float *start, const float *x, int bits, int64_t k, int64_t group) {
    const int each = 32 / bits, stretch = WORDS * each;
    const int64_t step = group >= stretch ? group / stretch * stretch : stretch, parts = stretch / group > 1 ? stretch / group : 1;
    const float offset = bits >= 16 ? 0.0f : (float)(1 << (bits - 1)), share = (float)parts / WORDS;
    for (int64_t b = 0; b < k / step; b++)
        for (int64_t part = 0; part < parts; part++) {
            float sum = 0;
            for (int64_t c = 0; c < step / parts; c++) sum += x[b * step + part * (step / parts) + c];
            for (int64_t one = 0; one < WORDS / parts; one++)
                start[b * WORDS + part * (WORDS / parts) + one] = -offset * share * sum;
        }
    for (int64_t b = 0; b < k / stretch; b++)
        for (int s = 0; s < each; s++) {
            float by = bits >= 16 || s + 1 == each ? 1.0f : 1.0f / (float)(1u << (bits * s));
            for (int one = 0; one < WORDS; one++)
                laid[(b * each + s) * WORDS + one] = x[(b * WORDS + one) * each + s] * by;
        }
}

#ifdef __AVX512VNNI__
/* Where the processor multiplies bytes, the vector is cut into three of them, which is 22 bits of the largest number of
   its group: sums of products of integers are exact, and float takes over once a group. A group is whole stretches, or
   a stretch is whole groups. `cut`: bytes of each part in the order of the codes, the parts k apart; `size`: what one is
   worth, and `start` where sums begin, for each word of a stretch. */
static inline __attribute__((always_inline)) void cut_up(int8_t *cut, float *size, float *start, const float *x,
                                                         int bits, int64_t k, int64_t group) {
    const int64_t stretch = WORDS * 32 / bits, lanes = group < stretch ? group * bits / 32 : WORDS;
    for (int64_t g = 0; g < k / group; g++) {
        const float *from = x + g * group;
        float peak = 0;
        int64_t sum = 0;
        Floats highest = {0}, odd = {0};
        for (int64_t c = 0; c < group; c += WORDS) {
            Floats now = *(const LooseFloats *)(from + c);
            highest = most(highest, most(now, -now));
            odd += now * 0.0f; /* not a number where one is none, or without end */
        }
        for (int one = 0; one < WORDS; one++) peak = highest[one] > peak ? highest[one] : peak;
        const float by = peak > 0 ? 127.0f * 16384.0f / peak : 0.0f;
        for (int64_t c = 0; c < group; c += WORDS) {
            Floats all = *(const LooseFloats *)(from + c) * by;
            all = (all + 12582912.0f) - 12582912.0f; /* to the nearest integer, which is below 2^22 */
            Ints whole = __builtin_convertvector(all, Ints), high = (whole + 8192) >> 14, rest = whole - (high << 14);
            Ints middle = (rest + 64) >> 7, low = rest - (middle << 7);
            /* Codes of four bits: those in the lower halves of the bytes of sixteen words, then the upper ones. */
            const int64_t at = g * group + c;
            int8_t *out = cut + (bits == 8 ? at : at / 128 * 128 + at % 128 / 2);
            for (int one = 0; one < WORDS; one++) {
                const int64_t to = bits == 8 ? one : one % 2 * 64 + one / 2;
                out[to] = (int8_t)high[one], out[k + to] = (int8_t)middle[one], out[2 * k + to] = (int8_t)low[one];
                sum += whole[one];
            }
        }
        for (int64_t one = g * lanes; one < (g + 1) * lanes; one++) {
            size[one] = peak / (127.0f * 16384.0f) + total(odd);
            start[one] = -(float)(1 << (bits - 1)) * size[one] * (float)sum / (float)lanes;
        }
    }
}

#define BYTES(at) _mm512_loadu_si512(at)
#define CODED(name, bits)                                                                                              \
    static void name(float *y, const uint32_t *words, const void *scales, int half, const int8_t *cut,                 \
                     const float *size, const float *start, int64_t n, int64_t k, int64_t group, int threads) {        \
        const int64_t width = k * bits / 32, groups = k / group, stretch = WORDS * 32 / bits;                          \
        const int64_t parts = group < stretch ? stretch / group : 1, run = group * parts * bits / 32;                  \
        _Pragma("omp parallel for num_threads(threads) if (threads > 1)")                                              \
        for (int64_t row = 0; row < n; row += 4) {                                                                     \
            const uint32_t *from = words + row * width;                                                                \
            Floats sums[4] = {{0}, {0}, {0}, {0}};                                                                     \
            for (int64_t g = 0; g < groups / parts; g++) {                                                             \
                const Floats one = *(const LooseFloats *)(size + g * WORDS);                                           \
                __m512i found[4][3];                                                                                   \
                for (int r = 0; r < 4; r++)                                                                            \
                    for (int part = 0; part < 3; part++) found[r][part] = _mm512_setzero_si512();                      \
                for (int64_t at = g * run; at < (g + 1) * run; at += WORDS)                                            \
                    _Pragma("GCC unroll 2") for (int piece = 0; piece < 8 / bits; piece++) {                           \
                        const int8_t *by = cut + at * 32 / bits + 64 * piece;                                          \
                        const __m512i high = BYTES(by), middle = BYTES(by + k), low = BYTES(by + 2 * k);               \
                        _Pragma("GCC unroll 4") for (int r = 0; r < 4; r++) {                                          \
                            __m512i code = BYTES(from + r * width + at);                                               \
                            if (piece == 0) __builtin_prefetch(from + (r + AHEAD) * width + at);                       \
                            if (bits == 4)                                                                             \
                                code = _mm512_and_si512(piece ? _mm512_srli_epi32(code, 4) : code,                     \
                                                        _mm512_set1_epi8(15));                                         \
                            found[r][0] = _mm512_dpbusd_epi32(found[r][0], code, high);                                \
                            found[r][1] = _mm512_dpbusd_epi32(found[r][1], code, middle);                              \
                            found[r][2] = _mm512_dpbusd_epi32(found[r][2], code, low);                                 \
                        }                                                                                              \
                    }                                                                                                  \
                _Pragma("GCC unroll 4") for (int r = 0; r < 4; r++) {                                                  \
                    Floats made = __builtin_convertvector((Ints)found[r][0], Floats) * 16384.0f;                       \
                    made += __builtin_convertvector((Ints)found[r][1], Floats) * 128.0f;                               \
                    made += __builtin_convertvector((Ints)found[r][2], Floats);                                        \
                    made = made * one + *(const LooseFloats *)(start + g * WORDS);                                     \
                    sums[r] += made * spread(scales, (row + r) * groups + g * parts, half, parts);                     \
                }                                                                                                      \
            }                                                                                                          \
            for (int r = 0; r < 4; r++) y[row + r] = total(sums[r]);                                                   \
        }                                                                                                              \
    }

CODED(eight_bits_by_bytes, 8)
CODED(four_bits_by_bytes, 4)

static int by_bytes(int bits, float *y, const void *words, const void *scales, int half, const float *x, int64_t m,
                    int64_t n, int64_t k, int64_t group, int threads) {
    const int64_t stretch = WORDS * 32 / bits, lanes = k / (group < stretch ? stretch : group) * WORDS;
    float *size = malloc(sizeof(float) * (size_t)(2 * lanes) + 3 * (size_t)k);
    if (size == NULL) return 1;
    int8_t *cut = (int8_t *)(size + 2 * lanes);
    for (int64_t one = 0; one < m; one++) {
        if (bits == 8) cut_up(cut, size, size + lanes, x + one * k, 8, k, group);
        else cut_up(cut, size, size + lanes, x + one * k, 4, k, group);
        (bits == 8 ? eight_bits_by_bytes : four_bits_by_bytes)(y + one * n, words, scales, half, cut, size, size + lanes,
                                                               n, k, group, threads);
    }
    free(size);
    return 0;
}
#endif

/* y [m, n] = x [m, k] times the transposed rows; 0, or 1 where memory ran out. Of codes n is a multiple of 4,
   and a group one of the 512 / bits numbers of a stretch or a half, quarter ... of it, down to a word; of other
   numbers the group is k. `half`: scales are bfloat16. */
int dsv4_times(int bits, float *y, const void *words, const void *scales, int half, const float *x, int64_t m, int64_t n,
               int64_t k, int64_t group, int threads) {
    if (n < 4) { /* of floats or bfloat16 alone */
        for (int64_t one = 0; one < m * n; one++) {
            const float *from = x + one / n * k;
            const char *row = (const char *)words + one % n * k * bits / 8;
            y[one] = 0;
            for (int64_t c = 0; c < k; c++)
                y[one] += (bits == 16 ? wide(((const uint16_t *)row)[c]) : ((const float *)row)[c]) * from[c];
        }
        return 0;
    }
#ifdef __AVX512VNNI__
    if (bits < 16 && group % WORDS == 0 && k * bits % (32 * WORDS) == 0)
        return by_bytes(bits, y, words, scales, half, x, m, n, k, group, threads);
#endif
    float *laid = malloc(sizeof(float) * (size_t)(2 * k + WORDS));
    if (laid == NULL) return 1;
    for (int64_t one = 0; one < m; one++) {
        const float *from = x + one * k;
        float *out = y + one * n;
        lay(laid, laid + k, from, bits, k, group);
        if (bits == 4) four_bits(out, words, scales, half, laid, laid + k, from, n, k, group, threads);
        else if (bits == 8) eight_bits(out, words, scales, half, laid, laid + k, from, n, k, group, threads);
        else if (bits == 32) floats(out, words, scales, half, laid, laid + k, from, n, k, group, threads);
        else sixteen_bits(out, words, scales, half, laid, laid + k, from, n, k, group, threads);
    }
    free(laid);
    return 0;
}

static inline void keep(void *out, int64_t place, int narrowed, float made) {
    if (narrowed) ((uint16_t *)out)[place] = narrow(made);
    else ((float *)out)[place] = made;
}

static inline __attribute__((always_inline)) void open_group(int bits, void *restrict out, int64_t at, int narrowed,
                                                             const uint8_t *restrict bytes, float by, int64_t group) {
    if (bits == 8)
        for (int64_t c = 0; c < group; c++) keep(out, at + c, narrowed, (float)((int32_t)bytes[c] - 128) * by);
    else
        for (int64_t c = 0; c < group / 2; c++) {
            keep(out, at + 2 * c, narrowed, (float)((int32_t)(bytes[c] & 15) - 8) * by);
            keep(out, at + 2 * c + 1, narrowed, (float)((int32_t)(bytes[c] >> 4) - 8) * by);
        }
}

/* Packed rows as numbers [n, k]: float, or bfloat16 rounded to nearest even; a group has an even count of numbers. */
void dsv4_open(int bits, void *out, int narrowed, const uint32_t *words, const void *scales, int half, int64_t n,
               int64_t k, int64_t group, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t row = 0; row < n; row++)
        for (int64_t g = 0; g < k / group; g++) {
            const uint8_t *bytes = (const uint8_t *)words + (row * k + g * group) * bits / 8;
            float by = scale_at(scales, row * (k / group) + g, half);
            int64_t at = row * k + g * group;
            if (bits == 8 && narrowed) open_group(8, out, at, 1, bytes, by, group);
            else if (bits == 8) open_group(8, out, at, 0, bytes, by, group);
            else if (narrowed) open_group(4, out, at, 1, bytes, by, group);
            else open_group(4, out, at, 0, bytes, by, group);
        }
}
