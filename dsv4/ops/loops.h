/* What all loops share: sixteen numbers at a time, bfloat16, and a weight as it lies in memory. */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 16
typedef float Floats __attribute__((vector_size(4 * WORDS)));
typedef int32_t Ints __attribute__((vector_size(4 * WORDS)));
typedef uint32_t Words __attribute__((vector_size(4 * WORDS)));
typedef Floats LooseFloats __attribute__((aligned(4), may_alias));
typedef Words LooseWords __attribute__((aligned(1), may_alias));

/* Rows of float (bits 32), bfloat16 (16), or packed codes (8, 4) with a scale a group; `half`: scales are bfloat16. */
typedef struct {
    const void *data, *scales;
    int64_t rows, columns, group;
    int32_t bits, half;
} Matrix;

int dsv4_times(int bits, float *y, const void *words, const void *scales, int half, const float *x, int64_t m, int64_t n,
               int64_t k, int64_t group, int threads);

static inline float wide(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float made;
    memcpy(&made, &bits, 4);
    return made;
}

static inline uint16_t narrow(float given) {
    uint32_t bits;
    memcpy(&bits, &given, 4);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#ifdef __clang__
#define SHUFFLED(v, w, ...) __builtin_shufflevector(v, w, __VA_ARGS__)
#else
#define SHUFFLED(v, w, ...) __builtin_shuffle(v, w, (Ints){__VA_ARGS__})
#endif
#define FOLD(v, ...) ((v) + SHUFFLED(v, v, __VA_ARGS__))

static inline float total(Floats given) {
    given = FOLD(given, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    given = FOLD(given, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    given = FOLD(given, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return given[0] + given[1];
}

/* Numbers `part` of sixteen words of bfloat16, the lower ones first, or of float. */
#define PART(w, part, bits) ((bits) == 32 ? (Floats)(w) : (Floats)((part) ? (w) & 0xffff0000u : (w) << 16))

static inline Floats most(Floats one, Floats other) {
    Ints above = one > other;
    return (Floats)(((Ints)one & above) | ((Ints)other & ~above));
}

/* e^x within two units of the last place; 0 below -87, and x is not above 88. */
static inline Floats exponential(Floats x) {
    const float magic = 12582912.0f;
    Ints gone = x < -87.0f;
    x = most(x, (Floats){0} - 87.0f);
    Floats turns = (x * 1.44269504f + magic) - magic;
    Floats rest = x - turns * 0.693359375f + turns * 2.12194440e-4f;
    Floats sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 0.5f;
    sum = sum * rest * rest + rest + 1.0f;
    Ints power = (__builtin_convertvector(turns, Ints) + 127) << 23;
    return (Floats)((Ints)(sum * (Floats)power) & ~gone);
}
