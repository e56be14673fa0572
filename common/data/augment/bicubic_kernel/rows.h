// The horizontal pass by shuffles of bytes within 128-bit lanes, for vectors of any number of lanes.

namespace {

// Each lane of a vector holds one output: the sums of its three channels, and a fourth one that is ignored. One load per lane
// covers four taps; one shuffle selects the bytes of two taps and pairs them by channel.
template <typename Vector>
class RowPlan {
    typedef typename Vector::Words Words;

   public:
    static constexpr long OVERREAD = 16;  // bytes past the end of a row that may be read

    // With `flip`, the outputs are in reverse order.
    RowPlan(const Taps& taps, bool flip) : precision(taps.precision), outputs(taps.outputs), pairs((taps.longest + 1) / 2) {
        const Array<int16_t> shifted(2 * pairs);
        for (long p = 0; p < outputs; p++) {
            // All outputs have the same number of taps: where there are fewer, at the ends, the others get weight zero.
            const long i = flip ? outputs - 1 - p : p, start = std::max(std::min(taps.first[i], taps.inputs - 2 * pairs), 0L);
            offsets[p] = start * CHANNELS;
            std::memset(shifted, 0, 2 * pairs * sizeof(int16_t));
            std::memcpy(&shifted[taps.first[i] - start], &taps.weights[i * taps.stride], taps.count[i] * sizeof(int16_t));
            int32_t* to = &weights[p / PIXELS * pairs * WORDS + p % PIXELS * 4];
            for (long j = 0; j < pairs; j++, to += WORDS)
                for (long lane = 0; lane < 4; lane++) to[lane] = load_weight_pair(&shifted[2 * j]);
        }
    }

    // Resize two or four rows; each pair of rows is written interleaved to one entry of `to`, and up to WORDS words more.
    template <int ROWS>
    void resize(const uint8_t* const* rows, int32_t* const* to) const {
        const auto half = Vector::repeat(1 << (precision - 1));
        const auto taps_01 = Vector::repeat(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
        const auto taps_23 = Vector::repeat(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
        const int32_t* pair = weights;
        for (long p = 0; p < outputs; p += PIXELS) {
            Words sums[ROWS];
            for (int r = 0; r < ROWS; r++) sums[r] = half;
            for (long j = 0; j < pairs; j += 2) {
                Words bytes[ROWS];
                for (int r = 0; r < ROWS; r++) bytes[r] = Vector::load_lanes(rows[r] + j * 2 * CHANNELS, &offsets[p]);
                add_taps<ROWS>(sums, bytes, taps_01, pair);
                if (j + 1 < pairs) add_taps<ROWS>(sums, bytes, taps_23, pair);
            }
            for (int r = 0; r < ROWS; r += 2) {
                const auto even = Vector::shift_right(sums[r], precision), odd = Vector::shift_right(sums[r + 1], precision);
                Vector::store_lanes(to[r / 2] + p * CHANNELS, Vector::interleave(even, odd));
            }
        }
    }

   private:
    // Add the products of two taps, and go to the weights of the next two.
    template <int ROWS>
    static void add_taps(Words* sums, const Words* bytes, Words taps, const int32_t*& pair) {
        const auto weights = Vector::load(pair);
        for (int r = 0; r < ROWS; r++) sums[r] = Vector::add_products(sums[r], Vector::shuffle(bytes[r], taps), weights);
        pair += WORDS;
    }

    static constexpr long PIXELS = Vector::BYTES / 16, WORDS = Vector::BYTES / 4;
    const int precision;
    const long outputs, pairs;  // pairs of taps
    const long groups = (outputs + PIXELS - 1) / PIXELS;
    const Array<long> offsets{groups * PIXELS};  // of each output's first tap, in bytes
    const Array<int32_t> weights{groups * pairs * WORDS};  // per group of outputs and pair of taps, a vector
};

}  // namespace
