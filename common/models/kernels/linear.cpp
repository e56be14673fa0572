// Owns the gradient of a linear layer's weight in bf16 on a CPU with matrix tiles.
//
// It is a product over all tokens of two matrices whose rows are tokens, while tiles take the left one with its columns as
// rows, the right one paired. Both are brought into that order by blocks of DEPTH tokens that stay in the core's cache.
//
// Shapes: of_result (tokens, height) and inputs (tokens, width) in bf16, of_weight (height, width) in bf16; height and width
// are multiples of LANES. Threads share the columns of the wider matrix; every entry is summed by one thread, token by token,
// so that results do not depend on the number of threads.

#include <omp.h>

namespace {

constexpr long DEPTH = 512;

// The transposed matrix (width x padded), padded a multiple of 32: zeros from column `rows` on.
void turn_halves(Matrix from, uint16_t* to, long rows, long width, long padded) {
    for (long j = 0; j < padded; j += 2 * LANES)
        for (long d = 0; d < width; d += LANES) {
            Words square[LANES];
            for (long r = 0; r < LANES; r++) square[r] = pair_of_rows(from, j + 2 * r, d, rows);
            transpose_square(square);
            for (long r = 0; r < LANES; r++) *reinterpret_cast<Words*>(to + (d + r) * padded + j) = square[r];
        }
}

struct Part {
    long first, count;
};

// This thread's part of so many columns, in whole vectors.
Part own_part(long columns) {
    const long vectors = columns / LANES, threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const long first = vectors * thread / threads, end = vectors * (thread + 1) / threads;
    return {first * LANES, (end - first) * LANES};
}

}  // namespace

extern "C" void weight_gradient(
    const uint16_t* of_result, const uint16_t* inputs, uint16_t* of_weight, long tokens, long height, long width
) {
#pragma omp parallel
    {
        const Part down = height >= width ? own_part(height) : Part{0, height};
        const Part across = height >= width ? Part{0, width} : own_part(width);
        if (down.count && across.count) {
            Scratch scratch(Scratch::bytes<float>(down.count * across.count + DEPTH / 2 * (down.count + across.count)) + 128);
            auto sums = scratch.take<float>(down.count * across.count);
            auto turned = scratch.take<uint16_t>(down.count * DEPTH);
            auto paired = scratch.take<uint32_t>(DEPTH / 2 * across.count);
            for (long first = 0; first < tokens; first += DEPTH) {
                const long rows = std::min(DEPTH, tokens - first), padded = (rows + 31) / 32 * 32;
                turn_halves({of_result + first * height + down.first, height}, turned, rows, down.count, padded);
                pair_rows({inputs + first * width + across.first, width}, paired, rows, across.count, padded);
                product({turned, padded}, paired, sums, down.count, across.count, padded, first > 0);
            }
            narrow_rows(sums, {of_weight + down.first * width + across.first, width}, down.count, across.count, [](long) { return 1.0f; });
        }
        at::native::cpublas::brgemm_release(true);
    }
}
