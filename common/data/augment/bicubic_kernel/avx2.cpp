// The variant for AVX2 (Haswell, Zen and later).

#include "kernel.h"

#if HAS_VARIANTS
#include "target.h"

BEGIN_TARGET("avx2,fma")
#include "taps.h"
#include "rows.h"
#include "resize.h"

namespace {

// A vector of words, for the templates of `rows.h` and `resize.h`.
struct Vector {
    static constexpr long BYTES = 32;
    typedef __m256i Words;

    static Words load(const int32_t* from) { return _mm256_loadu_si256((const Words*)from); }

    static Words repeat(int32_t word) { return _mm256_set1_epi32(word); }

    // sums + the products of the low halves + those of the high halves.
    static Words add_products(Words sums, Words halves, Words weights) {
        return _mm256_add_epi32(sums, _mm256_madd_epi16(halves, weights));
    }

    static Words shift_right(Words words, int count) { return _mm256_sra_epi32(words, _mm_cvtsi32_si128(count)); }

    // Load 16 bytes into each lane, from its own offset.
    static Words load_lanes(const uint8_t* from, const long* offsets) {
        const auto lane = [&](int i) { return _mm_loadu_si128((const __m128i*)(from + offsets[i])); };
        return _mm256_inserti128_si256(_mm256_castsi128_si256(lane(0)), lane(1), 1);
    }

    static Words shuffle(Words bytes, Words indices) { return _mm256_shuffle_epi8(bytes, indices); }

    // Repeat a lane.
    static Words repeat(__m128i lane) { return _mm256_broadcastsi128_si256(lane); }

    // Words of two bytes: those of `even`, clamped, as their low halves, those of `odd` as their high halves.
    static Words interleave(Words even, Words odd) {
        const Words both = _mm256_blend_epi16(even, _mm256_slli_epi32(odd, 16), 0b10101010);
        return _mm256_min_epi16(_mm256_max_epi16(both, _mm256_setzero_si256()), _mm256_set1_epi16(255));
    }

    // Store the first three words of each lane, and one more word.
    static void store_lanes(int32_t* to, Words words) {
        _mm_storeu_si128((__m128i*)to, _mm256_castsi256_si128(words));
        _mm_storeu_si128((__m128i*)(to + CHANNELS), _mm256_extracti128_si256(words, 1));
    }

    // Store four vectors of words, clamped to bytes.
    static void store_bytes(uint8_t* to, const Words* words) {
        const Words low = _mm256_packs_epi32(words[0], words[1]), high = _mm256_packs_epi32(words[2], words[3]);
        const Words in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        _mm256_storeu_si256((Words*)to, _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), in_order));
    }
};

}  // namespace
END_TARGET

const Variant AVX2 = {
    "AVX2",
    [] { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); },
    resize<Vector, RowPlan<Vector>>,
};
#endif
