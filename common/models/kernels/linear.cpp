// Weight gradient of a linear layer in bf16 on a CPU with AMX tiles.
//
// It is a product over all tokens of two matrices whose rows are tokens, but tiles need the left one transposed and the right
// one paired. Both are rearranged in blocks of DEPTH tokens that stay in the core's cache.
//
// Shapes: grad_result (tokens, height) and inputs (tokens, width) in bf16, grad_weight (height, width) in bf16; height and width
// are multiples of LANES. Threads divide the columns of the wider matrix; each entry is summed by one thread, token by token, so
// that results do not depend on the number of threads.

#include <omp.h>

namespace {

constexpr long DEPTH = 512;

// Transpose into (width x padded), where padded is a multiple of 32, with zeros from column `rows` on.
void transpose_halves(Matrix from, uint16_t* to, long rows, long width, long padded) {
    for (long j = 0; j < padded; j += 2 * LANES)
        for (long d = 0; d < width; d += LANES) {
            Words square[LANES];
            for (long r = 0; r < LANES; r++) square[r] = pair_of_rows(from, j + 2 * r, d, rows);
            transpose_square(square);
            for (long r = 0; r < LANES; r++) *reinterpret_cast<Words*>(to + (d + r) * padded + j) = square[r];
        }
}

struct Shard {
    long first, count;
};

// This thread's range of the columns, in multiples of a vector.
Shard local_shard(long columns) {
    const long vectors = columns / LANES, threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const long first = vectors * thread / threads, end = vectors * (thread + 1) / threads;
    return {first * LANES, (end - first) * LANES};
}

}  // namespace

extern "C" void weight_gradient(
    const uint16_t* grad_result, const uint16_t* inputs, uint16_t* grad_weight, long tokens, long height, long width
) {
#pragma omp parallel
    {
        const Shard rows_of_weight = height >= width ? local_shard(height) : Shard{0, height};
        const Shard columns_of_weight = height >= width ? Shard{0, width} : local_shard(width);
        const long num_rows = rows_of_weight.count, num_columns = columns_of_weight.count;
        if (num_rows && num_columns) {
            Scratch scratch(Scratch::bytes<float>(num_rows * num_columns + DEPTH / 2 * (num_rows + num_columns)) + 128);
            auto sums = scratch.take<float>(num_rows * num_columns);
            auto transposed = scratch.take<uint16_t>(num_rows * DEPTH);
            auto paired = scratch.take<uint32_t>(DEPTH / 2 * num_columns);
            for (long first = 0; first < tokens; first += DEPTH) {
                const long rows = std::min(DEPTH, tokens - first), padded = (rows + 31) / 32 * 32;
                transpose_halves({grad_result + first * height + rows_of_weight.first, height}, transposed, rows, num_rows, padded);
                pair_rows({inputs + first * width + columns_of_weight.first, width}, paired, rows, num_columns, padded);
                product({transposed, padded}, paired, sums, num_rows, num_columns, padded, first > 0);
            }
            const Rows<uint16_t> target{grad_weight + rows_of_weight.first * width + columns_of_weight.first, width};
            store_rows_bf16(sums, target, num_rows, num_columns, [](long) { return 1.0f; });
        }
        at::native::cpublas::brgemm_release(true);
    }
}
