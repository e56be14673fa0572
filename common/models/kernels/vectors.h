// Vectors of 16 fp32 values for the kernels of this folder; the compiler maps them to the processor's vector instructions.

#include <ATen/native/CPUBlas.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr long LANES = 16;

typedef float Floats __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint32_t Words __attribute__((vector_size(LANES * 4), aligned(4)));
typedef uint16_t Halves __attribute__((vector_size(LANES * 2), aligned(2)));

inline Floats load(const float* from) { return *reinterpret_cast<const Floats*>(from); }
inline void store(float* to, Floats values) { *reinterpret_cast<Floats*>(to) = values; }
inline long rounded_up(long count) { return (count + LANES - 1) / LANES * LANES; }

// Load 16 bf16 values as the low halves of words; store fp32 values rounded to the nearest bf16, ties to even. NaN is preserved,
// since the NaNs that arithmetic produces have no low bits that could carry over.
#if defined(__AVX512BF16__)
inline Words load_halves(const uint16_t* from) {
    return (Words)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline void store_bf16(uint16_t* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)values));
}

// 1 / x within 1 ulp for x between 2^-100 and 2^100; and x * 2^power.
inline Floats reciprocal(Floats x) {
    const Floats near = (Floats)_mm512_rcp14_ps((__m512)x);
    return near + near * (1.0f - x * near);
}

inline Floats scaled(Floats x, Floats power) { return (Floats)_mm512_scalef_ps((__m512)x, (__m512)power); }
#else
inline Words load_halves(const uint16_t* from) { return __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words); }

inline void store_bf16(uint16_t* to, Floats values) {
    const Words words = reinterpret_cast<Words&>(values);
    *reinterpret_cast<Halves*>(to) = __builtin_convertvector((words + 0x7fff + ((words >> 16) & 1)) >> 16, Halves);
}

inline Floats reciprocal(Floats x) { return 1.0f / x; }

inline Floats scaled(Floats x, Floats power) {
    const Ints exponent = __builtin_convertvector(power, Ints) + 127, bits = (exponent > 0 ? exponent : 0) << 23;
    return x * reinterpret_cast<const Floats&>(bits);
}
#endif

inline Floats absolute(Floats values) {
    const Words words = reinterpret_cast<Words&>(values) & 0x7fffffff;
    return reinterpret_cast<const Floats&>(words);
}

// Round to the nearest integer, for |x| <= 2^22: after adding 1.5 * 2^23 there are no bits left for fractions.
inline Floats nearest(Floats x) { return x + 12582912.0f - 12582912.0f; }

// 2^(integer + fraction) within 1 ulp, for a fraction from -1/2 to 1/2.
inline Floats power_of_two(Floats integer, Floats fraction) {
    Floats power = 1.53533099e-4f * fraction + 1.33989389e-3f;
    power = power * fraction + 9.61843798e-3f;
    power = power * fraction + 5.55033232e-2f;
    power = power * fraction + 2.40226479e-1f;
    power = power * fraction + 6.93147203e-1f;
    return scaled(power * fraction + 1.0f, integer);
}

// exp(x) for x <= 0 within 2 ulp; x is clamped at -87, and NaN is propagated.
inline Floats exponential(Floats x) {
    const Floats low = -87.0f - Floats{};
    x = x < low ? low : x;
    const Floats integer = nearest(x * 1.44269502f);
    return power_of_two(integer, x * 1.92596303e-8f + (x * 1.44269502f - integer));  // x / log(2) in two parts, the first product exact
}

inline Floats load_bf16(const uint16_t* from) {
    const Words words = load_halves(from) << 16;
    return reinterpret_cast<const Floats&>(words);
}

}  // namespace
