// Vectors of 512 bits (AVX-512 F, BW, DQ and VL), with the functions that `avx2.cpp` describes.

namespace {

template <bool HAS_VNNI>  // which multiplies and adds in one instruction
struct Vector {
    static constexpr long BYTES = 64;
    typedef __m512i Words;

    static Words load(const int32_t* from) { return _mm512_loadu_si512(from); }

    static Words repeat(int32_t word) { return _mm512_set1_epi32(word); }

    static Words add_products(Words sums, Words halves, Words weights) {
        if constexpr (HAS_VNNI) return _mm512_dpwssd_epi32(sums, halves, weights);
        else return _mm512_add_epi32(sums, _mm512_madd_epi16(halves, weights));
    }

    static Words shift_right(Words words, int count) { return _mm512_sra_epi32(words, _mm_cvtsi32_si128(count)); }

    static Words load_lanes(const uint8_t* from, const long* offsets) {
        const auto lane = [&](int i) { return _mm_loadu_si128((const __m128i*)(from + offsets[i])); };
        const Words first = _mm512_inserti32x4(_mm512_castsi128_si512(lane(0)), lane(1), 1);
        return _mm512_inserti32x4(_mm512_inserti32x4(first, lane(2), 2), lane(3), 3);
    }

    static Words shuffle(Words bytes, Words indices) { return _mm512_shuffle_epi8(bytes, indices); }

    static Words repeat(__m128i lane) { return _mm512_broadcast_i32x4(lane); }

    static Words interleave(Words even, Words odd) {
        const Words both = _mm512_mask_mov_epi16(_mm512_slli_epi32(odd, 16), 0x55555555, even);
        return _mm512_min_epi16(_mm512_max_epi16(both, _mm512_setzero_si512()), _mm512_set1_epi16(255));
    }

    static void store_lanes(int32_t* to, Words words) {
        const Words in_order = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 15, 15, 15, 15);
        _mm512_storeu_si512(to, _mm512_permutexvar_epi32(in_order, words));
    }

    static void store_bytes(uint8_t* to, const Words* words) {
        const Words low = _mm512_packs_epi32(words[0], words[1]), high = _mm512_packs_epi32(words[2], words[3]);
        const Words in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_storeu_si512(to, _mm512_permutexvar_epi32(in_order, _mm512_packus_epi16(low, high)));
    }
};

}  // namespace
