// The variant for AVX-512 with VBMI and VNNI (Ice Lake, Zen 4 and later): one permutation (VBMI) moves the bytes of a row to their
// lanes, and one instruction (VNNI) accumulates two taps of 15 or 16 outputs.

#include "kernel.h"

#if HAS_VARIANTS
#include "target.h"

BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")
#include "taps.h"
#include "resize.h"
#include "vector512.h"

namespace {

typedef Vector<true> Words16;

// The horizontal pass. Neighboring outputs of a row, a block, are summed in one register.
class WindowPlan {
   public:
    static constexpr long OVERREAD = 64;  // bytes past the end of a row that may be read

    // With `flip`, the outputs are in reverse order.
    WindowPlan(const Taps& taps, bool flip)
        : precision(taps.precision), most_pairs((taps.longest + 1) / 2), pixels(pixels_per_block(taps)),
          num_blocks((taps.outputs + pixels - 1) / pixels) {
        for (long b = 0, output = 0; b < num_blocks; b++, output += pixels) {
            Block& block = blocks[b];
            const long members = std::min(pixels, taps.outputs - output);
            const long lowest = flip ? taps.outputs - output - members : output, start = taps.first[lowest];
            long most = 0, span = 0;
            for (long p = 0; p < members; p++) {
                const long i = flip ? lowest + members - 1 - p : lowest + p;
                most = std::max(most, taps.count[i]);
                for (long c = 0; c < CHANNELS; c++) {
                    const long lane = p * CHANNELS + c, place = CHANNELS * (taps.first[i] - start) + c;
                    block.byte_indices[4 * lane] = place;
                    block.byte_indices[4 * lane + 2] = place + CHANNELS;
                    span = std::max(span, place + CHANNELS + 1);
                    for (long j = 0; 2 * j < taps.count[i]; j++)
                        weights[(b * most_pairs + j) * LANES + lane] = load_weight_pair(&taps.weights[i * taps.stride + 2 * j]);
                }
            }
            block.start = start * CHANNELS;
            block.pairs = (most + 1) / 2;
            block.steps = (WINDOW - span) / (2 * CHANNELS) + 1;
        }
    }

    // Resize two or four rows; each pair of rows is written interleaved to one entry of `to`, and up to LANES words more.
    template <int ROWS>
    void resize(const uint8_t* const* rows, int32_t* const* to) const {
        const __m512i half = _mm512_set1_epi32(1 << (precision - 1)), two_pixels = _mm512_set1_epi8(2 * CHANNELS);
        for (long b = 0; b < num_blocks; b++) {
            const Block& block = blocks[b];
            const int32_t* pairs = &weights[b * most_pairs * LANES];
            __m512i sums[ROWS];
            for (int r = 0; r < ROWS; r++) sums[r] = half;
            for (long j = 0; j < block.pairs; j += block.steps) {
                __m512i windows[ROWS], byte_indices = _mm512_loadu_si512(block.byte_indices);
                for (int r = 0; r < ROWS; r++) windows[r] = _mm512_loadu_si512(rows[r] + block.start + j * 2 * CHANNELS);
                for (long step = j; step < std::min(j + block.steps, block.pairs); step++) {
                    const __m512i pair = _mm512_loadu_si512(pairs + step * LANES);
                    for (int r = 0; r < ROWS; r++) {
                        const __m512i halves = _mm512_maskz_permutexvar_epi8(LOW_BYTES, byte_indices, windows[r]);
                        sums[r] = Words16::add_products(sums[r], halves, pair);
                    }
                    byte_indices = _mm512_add_epi8(byte_indices, two_pixels);
                }
            }
            for (int r = 0; r < ROWS; r++) sums[r] = Words16::shift_right(sums[r], precision);
            for (int r = 0; r < ROWS; r += 2)
                _mm512_storeu_si512(to[r / 2] + b * pixels * CHANNELS, Words16::interleave(sums[r], sums[r + 1]));
        }
    }

   private:
    static constexpr long LANES = 16;
    static constexpr long WINDOW = 64;  // bytes that one permutation can select from
    static constexpr uint64_t LOW_BYTES = 0x5555555555555555;

    // The bytes of the outputs' first pairs of taps lie within one window of the row, starting at byte `start`; each next pair
    // lies two pixels further. One window covers `steps` pairs.
    struct Block {
        long start, pairs, steps;
        uint8_t byte_indices[WINDOW];
    };

    // Return the largest number of outputs, limited by the lanes, whose bytes for one pair of taps fit into a window.
    static long pixels_per_block(const Taps& taps) {
        for (long pixels = std::min(LANES / CHANNELS, taps.outputs); pixels > 1; pixels--) {
            bool fits = true;
            for (long i = 0; i + pixels <= taps.outputs && fits; i++)
                fits = CHANNELS * (taps.first[i + pixels - 1] - taps.first[i] + 2) <= WINDOW;
            if (fits) return pixels;
        }
        return 1;
    }

    const int precision;
    const long most_pairs, pixels, num_blocks;  // pairs of taps of a block at most; outputs of a block
    const Array<Block> blocks{num_blocks};
    const Array<int32_t> weights{num_blocks * most_pairs * LANES};  // per block and pair of taps, a vector
};

}  // namespace
END_TARGET

const Variant AVX512_VBMI = {
    "AVX-512 VBMI",
    [] {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
    },
    resize<Words16, WindowPlan>,
};
#endif
