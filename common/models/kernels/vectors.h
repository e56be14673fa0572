// Owns vectors of 16 fp32 values, as the kernels of this folder use them; the compiler maps them to what the processor has.

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

// 16 bf16 values as the low halves of words; and fp32 values rounded to the nearest bf16, ties to even. A NaN stays one, since
// those of arithmetic have no low bits to carry over.
#if defined(__AVX512BF16__)
inline Words load_halves(const uint16_t* from) {
    return (Words)_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}

inline void narrow(uint16_t* to, Floats values) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh((__m512)values));
}
#else
inline Words load_halves(const uint16_t* from) { return __builtin_convertvector(*reinterpret_cast<const Halves*>(from), Words); }

inline void narrow(uint16_t* to, Floats values) {
    const Words words = reinterpret_cast<Words&>(values);
    *reinterpret_cast<Halves*>(to) = __builtin_convertvector((words + 0x7fff + ((words >> 16) & 1)) >> 16, Halves);
}
#endif

inline Floats absolute(Floats values) {
    const Words words = reinterpret_cast<Words&>(values) & 0x7fffffff;
    return reinterpret_cast<const Floats&>(words);
}

// exp(x) for x <= 0 within 2 units in the last place; below -87 it stays at exp(-87), and a NaN stays a NaN.
inline Floats exponential(Floats x) {
    const Floats low = -87.0f - Floats{};
    x = x < low ? low : x;
    const Floats shifted = x * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum's last bits are the nearest whole number
    const Floats whole = shifted - 12582912.0f;
    const Floats rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    Floats power = 1.9875691500e-4f * rest + 1.3981999507e-3f;
    power = power * rest + 8.3334519073e-3f;
    power = power * rest + 4.1665795894e-2f;
    power = power * rest + 1.6666665459e-1f;
    power = power * rest + 5.0000001201e-1f;
    power = power * rest * rest + rest + 1.0f;
    const Ints bits = (__builtin_convertvector(whole, Ints) + 127) << 23;
    return power * reinterpret_cast<const Floats&>(bits);
}

inline Floats widen(const uint16_t* from) {
    const Words words = load_halves(from) << 16;
    return reinterpret_cast<const Floats&>(words);
}

}  // namespace
