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
#define SHUFFLED(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLED(v, ...) __builtin_shuffle(v, (Ints){__VA_ARGS__})
#endif
#define FOLD(v, ...) ((v) + SHUFFLED(v, __VA_ARGS__))

static inline float total(Floats given) {
    given = FOLD(given, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    given = FOLD(given, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    given = FOLD(given, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return given[0] + given[1];
}
