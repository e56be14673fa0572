// Owns self-attention in bf16 on a CPU with matrix tiles, forward and backward, for queries, keys and values as one linear
// layer leaves them.
//
// One task is one image and one head. Queries pass through in blocks of BLOCK rows, so that scores and probabilities stay in
// the core's cache and never reach memory.
//
// Shapes: qkv (batch, tokens, 3, heads, width) and out (batch, tokens, heads, width) in bf16, lse (batch, heads, tokens) in
// fp32; `width`, that of a head, is a multiple of 32. Every task is computed by one thread in one order: results do not
// depend on the number of threads.

namespace {

constexpr long BLOCK = 128;

struct Shape {
    long batch, tokens, heads, width;
    long block() const { return std::min(tokens, BLOCK); }
    long stride() const { return 3 * heads * width; }  // of qkv
    template <typename Half>
    Rows<Half> part(Half* qkv, long image, long head, long which) const {
        return {qkv + image * tokens * stride() + (which * heads + head) * width, stride()};
    }
    template <typename Half>
    Rows<Half> result(Half* out, long image, long head) const {
        return {out + (image * tokens * heads + head) * width, heads * width};
    }
};

// Turn scores (keys x padded queries) into unnormalised probabilities; write for each query the factor that normalises them and
// the logarithm of the sum of its exponentials.
void soften(float* scores, float* factors, float* lse, long keys, long padded, float scale) {
    for (long i = 0; i < padded; i += LANES) {
        Floats highest = load(scores + i), sums{};
        for (long j = 1; j < keys; j++) {
            const Floats score = load(scores + j * padded + i);
            highest = score > highest ? score : highest;
        }
        for (long j = 0; j < keys; j++) {
            const Floats power = exponential((load(scores + j * padded + i) - highest) * scale);
            store(scores + j * padded + i, power);
            sums += power;
        }
        store(factors + i, 1.0f / sums);
        for (long lane = 0; lane < LANES; lane++) lse[i + lane] = highest[lane] * scale + std::log(sums[lane]);
    }
}

// Turn scores (keys x padded queries) into probabilities, and the gradients of the probabilities into those of the scores:
// dS = P * (dP - sum over keys of P * dP). Write both in bf16 too.
void differentiate(
    float* scores, float* gradients, const float* lse, uint16_t* shares, uint16_t* of_scores, long keys, long padded, float scale
) {
    for (long i = 0; i < padded; i += LANES) {
        const Floats normaliser = load(lse + i);
        Floats means{};
        for (long j = 0; j < keys; j++) {
            const Floats share = exponential(load(scores + j * padded + i) * scale - normaliser);
            store(scores + j * padded + i, share);
            narrow(shares + j * padded + i, share);
            means += share * load(gradients + j * padded + i);
        }
        for (long j = 0; j < keys; j++) {
            const Floats gradient = load(scores + j * padded + i) * (load(gradients + j * padded + i) - means);
            store(gradients + j * padded + i, gradient);
            narrow(of_scores + j * padded + i, gradient);
        }
    }
}

// `to` (queries x rounded_up(keys), bf16) = `from` (keys x rounded_up(queries), fp32) turned over, zeros from `keys` on.
void turn(const float* from, uint16_t* to, long keys, long queries) {
    const long from_stride = rounded_up(queries), to_stride = rounded_up(keys);
    for (long j = 0; j < to_stride; j += LANES)
        for (long i = 0; i < queries; i += LANES) {
            Floats square[LANES];
            for (long r = 0; r < LANES; r++) square[r] = j + r < keys ? load(from + (j + r) * from_stride + i) : Floats{};
            transpose_square(square);
            for (long r = 0; r < LANES && i + r < queries; r++) narrow(to + (i + r) * to_stride + j, square[r]);
        }
}

}  // namespace

// Return whether this processor has what the products take.
extern "C" bool attention_available() { return at::native::cpublas::could_pack(at::kBFloat16); }

extern "C" void attention_forward(
    const uint16_t* qkv, uint16_t* out, float* lse, long batch, long tokens, long heads, long width, float scale
) {
    const Shape shape{batch, tokens, heads, width};
    const long padded = rounded_up(tokens), block = rounded_up(shape.block());
#pragma omp parallel
    {
        Scratch scratch(Scratch::bytes<float>(padded * width + block * (2 * width + 2 * padded + 2) + 128));
        auto values = scratch.take<uint32_t>(padded / 2 * width), queries = scratch.take<uint32_t>(width / 2 * block);
        auto scores = scratch.take<float>(padded * block), result = scratch.take<float>(block * width);
        auto factors = scratch.take<float>(block), logarithms = scratch.take<float>(block);
        auto powers = scratch.take<uint16_t>(block * padded);
#pragma omp for schedule(static)
        for (long task = 0; task < batch * heads; task++) {
            const long image = task / heads, head = task % heads;
            pair_rows(shape.part(qkv, image, head, 2), values, tokens, width, padded);
            for (long first = 0; first < tokens; first += shape.block()) {
                const long rows = std::min(tokens - first, shape.block()), stride = rounded_up(rows);
                pair_columns(shape.part(qkv, image, head, 0).from(first), queries, rows, width);
                product(shape.part(qkv, image, head, 1), queries, scores, tokens, stride, width);
                soften(scores, factors, logarithms, tokens, stride, scale);
                std::copy_n(logarithms, rows, lse + task * tokens + first);
                turn(scores, powers, tokens, rows);
                product({powers, padded}, values, result, rows, width, padded);
                narrow_rows(result, shape.result(out, image, head).from(first), rows, width, [&](long i) { return factors[i]; });
            }
        }
        at::native::cpublas::brgemm_release(true);
    }
}

extern "C" void attention_backward(
    const uint16_t* qkv, const float* lse, const uint16_t* of_out, uint16_t* of_qkv, long batch, long tokens, long heads, long width,
    float scale
) {
    const Shape shape{batch, tokens, heads, width};
    const long padded = rounded_up(tokens), block = rounded_up(shape.block());
#pragma omp parallel
    {
        Scratch scratch(Scratch::bytes<float>(padded * width * 3 + block * (width * 3 + 4 * padded + 1) + 256));
        auto of_keys = scratch.take<float>(padded * width), of_values = scratch.take<float>(padded * width);
        auto keys = scratch.take<uint32_t>(padded / 2 * width);
        auto columns = scratch.take<uint32_t>(width / 2 * block), rows_paired = scratch.take<uint32_t>(block / 2 * width);
        auto of_queries = scratch.take<float>(block * width), normalisers = scratch.take<float>(block);
        auto scores = scratch.take<float>(padded * block), gradients = scratch.take<float>(padded * block);
        auto shares = scratch.take<uint16_t>(padded * block), of_scores = scratch.take<uint16_t>(padded * block);
        auto turned = scratch.take<uint16_t>(padded * block);
#pragma omp for schedule(static)
        for (long task = 0; task < batch * heads; task++) {
            const long image = task / heads, head = task % heads;
            const auto constant = [scale](long) { return scale; };
            pair_rows(shape.part(qkv, image, head, 1), keys, tokens, width, padded);
            for (long first = 0; first < tokens; first += shape.block()) {
                const long rows = std::min(tokens - first, shape.block()), stride = rounded_up(rows);
                const Matrix queries = shape.part(qkv, image, head, 0).from(first), of_result = shape.result(of_out, image, head).from(first);
                for (long i = 0; i < stride; i++) normalisers[i] = i < rows ? lse[task * tokens + first + i] : INFINITY;
                pair_columns(queries, columns, rows, width);
                product(shape.part(qkv, image, head, 1), columns, scores, tokens, stride, width);
                pair_columns(of_result, columns, rows, width);
                product(shape.part(qkv, image, head, 2), columns, gradients, tokens, stride, width);
                differentiate(scores, gradients, normalisers, shares, of_scores, tokens, stride, scale);
                pair_rows(of_result, rows_paired, rows, width, stride);
                product({shares, stride}, rows_paired, of_values, tokens, width, stride, first > 0);
                pair_rows(queries, rows_paired, rows, width, stride);
                product({of_scores, stride}, rows_paired, of_keys, tokens, width, stride, first > 0);
                turn(gradients, turned, tokens, rows);
                product({turned, padded}, keys, of_queries, rows, width, padded);
                narrow_rows(of_queries, shape.part(of_qkv, image, head, 0).from(first), rows, width, constant);
            }
            narrow_rows(of_keys, shape.part(of_qkv, image, head, 1), tokens, width, constant);
            narrow_rows(of_values, shape.part(of_qkv, image, head, 2), tokens, width, [](long) { return 1.0f; });
        }
        at::native::cpublas::brgemm_release(true);
    }
}
