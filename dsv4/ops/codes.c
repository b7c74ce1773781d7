/* Eight-bit floats (e4m3fn) as float16, bfloat16 or float, exactly; codes that are no number become 480. */
#include "loops.h"

/* Bits of a number of sixteen bits whose fraction begins at bit `shift` + 3, the exponent of 1/64 being `base`. The
   eight codes without an exponent are m / 512. */
static inline uint16_t opened(uint8_t code, int shift, uint16_t base) {
    const uint16_t unit = (uint16_t)(8 << shift), t = code & 0x7f, sign = (uint16_t)((code & 0x80) << 8);
    uint16_t plain = (uint16_t)((t << shift) + base);
    uint16_t small = (uint16_t)(base + (uint16_t)((t - 4) << (shift + 1)));
    small = t < 4 ? (uint16_t)(base - unit + (uint16_t)((t - 2) << (shift + 2))) : small;
    small = t < 2 ? (uint16_t)(base - 2 * unit) : small;
    small = t < 1 ? 0 : small;
    return (uint16_t)((t < 8 ? small : plain) | sign);
}

/* form 0: float16, 1: bfloat16, 2: float. */
void dsv4_open_e4m3(void *restrict out, const uint8_t *restrict codes, int64_t count, int form) {
    if (form == 0)
        for (int64_t one = 0; one < count; one++) ((uint16_t *)out)[one] = opened(codes[one], 7, 0x2000);
    else if (form == 1)
        for (int64_t one = 0; one < count; one++) ((uint16_t *)out)[one] = opened(codes[one], 4, 0x3c00);
    else
        for (int64_t one = 0; one < count; one++)
            ((uint32_t *)out)[one] = (uint32_t)opened(codes[one], 4, 0x3c00) << 16;
}
