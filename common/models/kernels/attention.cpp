// Self-attention in bf16 on a CPU with AMX tiles, forward and backward, for the output of a fused qkv projection.
//
// One task is one image and one head. Queries are processed in blocks of BLOCK rows, so that scores and probabilities stay in
// the core's cache and are never written to memory.
//
// Shapes: qkv (batch, tokens, 3, heads, width) and out (batch, tokens, heads, width) in bf16, lse (batch, heads, tokens) in
// fp32; `width` is the head dimension, a multiple of 32. Each task is computed by one thread in a fixed order: results do not
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

// Convert scores (keys x padded queries) into unnormalized probabilities in place; write the normalizing factor and the
// logsumexp of each query.
void softmax(float* scores, float* factors, float* lse, long keys, long padded, float scale) {
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

// Convert scores (keys x padded queries) into probabilities, and the gradients of the probabilities into those of the scores,
// in place: dS = P * (dP - sum over keys of P * dP). Also write both in bf16.
void softmax_backward(
    float* scores, float* gradients, const float* lse, uint16_t* probabilities, uint16_t* grad_scores, long keys, long padded,
    float scale
) {
    for (long i = 0; i < padded; i += LANES) {
        const Floats normalizer = load(lse + i);
        Floats means{};
        for (long j = 0; j < keys; j++) {
            const Floats probability = exponential(load(scores + j * padded + i) * scale - normalizer);
            store(scores + j * padded + i, probability);
            store_bf16(probabilities + j * padded + i, probability);
            means += probability * load(gradients + j * padded + i);
        }
        for (long j = 0; j < keys; j++) {
            const Floats gradient = load(scores + j * padded + i) * (load(gradients + j * padded + i) - means);
            store(gradients + j * padded + i, gradient);
            store_bf16(grad_scores + j * padded + i, gradient);
        }
    }
}

// Transpose `from` (keys x rounded_up(queries), fp32) into `to` (queries x rounded_up(keys), bf16), with zeros from `keys` on.
void transpose(const float* from, uint16_t* to, long keys, long queries) {
    const long from_stride = rounded_up(queries), to_stride = rounded_up(keys);
    for (long j = 0; j < to_stride; j += LANES)
        for (long i = 0; i < queries; i += LANES) {
            Floats square[LANES];
            for (long r = 0; r < LANES; r++) square[r] = j + r < keys ? load(from + (j + r) * from_stride + i) : Floats{};
            transpose_square(square);
            for (long r = 0; r < LANES && i + r < queries; r++) store_bf16(to + (i + r) * to_stride + j, square[r]);
        }
}

}  // namespace

// Return whether this processor supports the products (AMX bf16).
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
        auto exponentials = scratch.take<uint16_t>(block * padded);
#pragma omp for schedule(static)
        for (long task = 0; task < batch * heads; task++) {
            const long image = task / heads, head = task % heads;
            pair_rows(shape.part(qkv, image, head, 2), values, tokens, width, padded);
            for (long first = 0; first < tokens; first += shape.block()) {
                const long rows = std::min(tokens - first, shape.block()), stride = rounded_up(rows);
                pair_columns(shape.part(qkv, image, head, 0).from(first), queries, rows, width);
                product(shape.part(qkv, image, head, 1), queries, scores, tokens, stride, width);
                softmax(scores, factors, logarithms, tokens, stride, scale);
                std::copy_n(logarithms, rows, lse + task * tokens + first);
                transpose(scores, exponentials, tokens, rows);
                product({exponentials, padded}, values, result, rows, width, padded);
                store_rows_bf16(result, shape.result(out, image, head).from(first), rows, width, [&](long i) { return factors[i]; });
            }
        }
        at::native::cpublas::brgemm_release(true);
    }
}

extern "C" void attention_backward(
    const uint16_t* qkv, const float* lse, const uint16_t* grad_out, uint16_t* grad_qkv, long batch, long tokens, long heads,
    long width, float scale
) {
    const Shape shape{batch, tokens, heads, width};
    const long padded = rounded_up(tokens), block = rounded_up(shape.block());
#pragma omp parallel
    {
        Scratch scratch(Scratch::bytes<float>(padded * width * 3 + block * (width * 3 + 4 * padded + 1) + 256));
        auto grad_keys = scratch.take<float>(padded * width), grad_values = scratch.take<float>(padded * width);
        auto keys = scratch.take<uint32_t>(padded / 2 * width);
        auto columns = scratch.take<uint32_t>(width / 2 * block), rows_paired = scratch.take<uint32_t>(block / 2 * width);
        auto grad_queries = scratch.take<float>(block * width), normalizers = scratch.take<float>(block);
        auto scores = scratch.take<float>(padded * block), gradients = scratch.take<float>(padded * block);
        auto probabilities = scratch.take<uint16_t>(padded * block), grad_scores = scratch.take<uint16_t>(padded * block);
        auto transposed = scratch.take<uint16_t>(padded * block);
#pragma omp for schedule(static)
        for (long task = 0; task < batch * heads; task++) {
            const long image = task / heads, head = task % heads;
            const auto constant = [scale](long) { return scale; };
            pair_rows(shape.part(qkv, image, head, 1), keys, tokens, width, padded);
            for (long first = 0; first < tokens; first += shape.block()) {
                const long rows = std::min(tokens - first, shape.block()), stride = rounded_up(rows);
                const Matrix queries = shape.part(qkv, image, head, 0).from(first);
                const Matrix grad_result = shape.result(grad_out, image, head).from(first);
                for (long i = 0; i < stride; i++) normalizers[i] = i < rows ? lse[task * tokens + first + i] : INFINITY;
                pair_columns(queries, columns, rows, width);
                product(shape.part(qkv, image, head, 1), columns, scores, tokens, stride, width);
                pair_columns(grad_result, columns, rows, width);
                product(shape.part(qkv, image, head, 2), columns, gradients, tokens, stride, width);
                softmax_backward(scores, gradients, normalizers, probabilities, grad_scores, tokens, stride, scale);
                pair_rows(grad_result, rows_paired, rows, width, stride);
                product({probabilities, stride}, rows_paired, grad_values, tokens, width, stride, first > 0);
                pair_rows(queries, rows_paired, rows, width, stride);
                product({grad_scores, stride}, rows_paired, grad_keys, tokens, width, stride, first > 0);
                transpose(gradients, transposed, tokens, rows);
                product({transposed, padded}, keys, grad_queries, rows, width, padded);
                store_rows_bf16(grad_queries, shape.part(grad_qkv, image, head, 0).from(first), rows, width, constant);
            }
            store_rows_bf16(grad_keys, shape.part(grad_qkv, image, head, 1), tokens, width, constant);
            store_rows_bf16(grad_values, shape.part(grad_qkv, image, head, 2), tokens, width, [](long) { return 1.0f; });
        }
        at::native::cpublas::brgemm_release(true);
    }
}
