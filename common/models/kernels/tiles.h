// bf16 matrices in the layout of AMX tiles, and their products, computed by oneDNN through PyTorch.
//
// A product accumulates in fp32. Its right matrix is `paired` (VNNI layout): rows 2k and 2k + 1 are stored as one row of pairs.

namespace {

// Exchange, between two rows of a square, the runs of STEP lanes on opposite sides of its diagonal.
template <long STEP, typename Row, size_t... LANE>
inline void exchange(Row& upper, Row& lower, std::index_sequence<LANE...>) {
    const Row first = upper, second = lower;
    upper = __builtin_shufflevector(first, second, (LANE & STEP ? LANE - STEP + LANES : LANE)...);
    lower = __builtin_shufflevector(first, second, (LANE & STEP ? LANE + LANES : LANE + STEP)...);
}

template <long STEP = LANES / 2, typename Row>
inline void transpose_square(Row (&rows)[LANES]) {
#pragma GCC unroll 16
    for (long i = 0; i < LANES; i++)
        if (!(i & STEP)) exchange<STEP>(rows[i], rows[i + STEP], std::make_index_sequence<LANES>());
    if constexpr (STEP > 1) transpose_square<STEP / 2>(rows);
}

template <typename Half>  // uint16_t or const uint16_t
struct Rows {  // bf16 rows in memory, `stride` elements apart
    Half* values;
    long stride;
    Rows from(long row) const { return {values + row * stride, stride}; }
};

typedef Rows<const uint16_t> Matrix;

// Transpose into (width x rows), paired: word (d, j) holds entries 2d and 2d + 1 of row j; zeros from column `rows` on.
void pair_columns(Matrix from, uint32_t* to, long rows, long width) {
    const long padded = rounded_up(rows);
    for (long j = 0; j < padded; j += LANES)
        for (long d = 0; d < width / 2; d += LANES) {
            Words square[LANES];
            for (long r = 0; r < LANES; r++)
                square[r] = j + r < rows ? *reinterpret_cast<const Words*>(from.from(j + r).values + 2 * d) : Words{};
            transpose_square(square);
            for (long r = 0; r < LANES; r++) *reinterpret_cast<Words*>(to + (d + r) * padded + j) = square[r];
        }
}

// Entries d to d + LANES of rows j and j + 1 as pairs; zeros from row `rows` on.
inline Words pair_of_rows(Matrix from, long j, long d, long rows) {
    const Words even = j < rows ? load_halves(from.from(j).values + d) : Words{};
    const Words odd = j + 1 < rows ? load_halves(from.from(j + 1).values + d) : Words{};
    return even | (odd << 16);
}

// Pair a matrix (rows x width): word (j, d) holds entry d of rows 2j and 2j + 1; zeros from row `rows` to `padded`.
void pair_rows(Matrix from, uint32_t* to, long rows, long width, long padded) {
    for (long j = 0; j < padded; j += 2)
        for (long d = 0; d < width; d += LANES) *reinterpret_cast<Words*>(to + j / 2 * width + d) = pair_of_rows(from, j, d, rows);
}

// C (rows x columns, fp32) = or += A (rows x depth) @ B (depth x columns, paired).
void product(Matrix a, const uint32_t* b, float* c, long rows, long columns, long depth, bool add = false) {
    const auto left = reinterpret_cast<const at::BFloat16*>(a.values), right = reinterpret_cast<const at::BFloat16*>(b);
    at::native::cpublas::brgemm(rows, columns, depth, a.stride, columns, columns, add, left, right, c, true);
}

struct Scratch {  // scratch memory of one thread
    explicit Scratch(long bytes) : buffer(static_cast<char*>(std::aligned_alloc(64, bytes))), next(buffer) {}
    ~Scratch() { std::free(buffer); }
    template <typename Value>
    Value* take(long count) {
        char* start = next;
        next += bytes<Value>(count);
        return reinterpret_cast<Value*>(start);
    }
    template <typename Value>
    static long bytes(long count) {
        return (count * static_cast<long>(sizeof(Value)) + 63) / 64 * 64;
    }
    char *buffer, *next;
};

// Store fp32 rows as bf16, row i multiplied by factor(i).
template <typename Factor>
void store_rows_bf16(const float* from, Rows<uint16_t> to, long rows, long width, Factor factor) {
    for (long i = 0; i < rows; i++)
        for (long d = 0; d < width; d += LANES)
            store_bf16(to.from(i).values + d, load(from + i * width + d) * factor(i));
}

}  // namespace
