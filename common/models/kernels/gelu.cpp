// GELU(x + bias) on bf16 values with an fp32 bias, and its gradients, in one pass each.
//
// Shapes: values (rows, width) in bf16, bias (width) in fp32; width is a multiple of LANES. The gradient of the bias is summed
// over blocks of rows in a fixed order: it does not depend on the number of threads.

namespace {

constexpr long ROWS = 256;  // rows of a block, which is one task

constexpr float MAX_DISTANCE = 16;  // the tail beyond it is 0

struct Normal {
    Floats distance, density, tail;
};

// The standard normal distribution at min(|x|, MAX_DISTANCE) with an error below 7.5e-8 (Abramowitz and Stegun, 26.2.17); the
// tail is the probability beyond. NaN is propagated.
inline Normal normal(Floats x) {
    const Floats limit = MAX_DISTANCE - Floats{}, unclamped = absolute(x), distance = limit < unclamped ? limit : unclamped;
    const Floats power = distance * distance * -0.72134752f, integer = nearest(power);  // exp(-x^2 / 2) = 2^power
    const Floats density = power_of_two(integer, power - integer) * 0.39894228f;
    const Floats t = reciprocal(0.2316419f * distance + 1.0f);
    Floats sum = 1.330274429f * t - 1.821255978f;
    sum = sum * t + 1.781477937f;
    sum = sum * t - 0.356563782f;
    sum = sum * t + 0.319381530f;
    return {distance, density, density * (sum * t)};
}

}  // namespace

extern "C" void gelu_forward(const uint16_t* values, const float* bias, uint16_t* result, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long block = 0; block < (rows + ROWS - 1) / ROWS; block++)
        for (long row = block * ROWS; row < std::min(rows, (block + 1) * ROWS); row++)
            for (long i = 0; i < width; i += LANES) {
                const Floats x = load_bf16(values + row * width + i) + load(bias + i);
                const Normal phi = normal(x);
                store_bf16(result + row * width + i, (x > 0 ? x : 0.0f) - phi.distance * phi.tail);
            }
}

extern "C" void gelu_backward(
    const uint16_t* grad_result, const uint16_t* values, const float* bias, uint16_t* grad_values, float* grad_bias, long rows,
    long width
) {
    const long blocks = (rows + ROWS - 1) / ROWS;
    std::vector<float> sums(blocks * width, 0.0f);
#pragma omp parallel for schedule(static)
    for (long block = 0; block < blocks; block++)
        for (long row = block * ROWS; row < std::min(rows, (block + 1) * ROWS); row++)
            for (long i = 0; i < width; i += LANES) {
                const Floats x = load_bf16(values + row * width + i) + load(bias + i);
                const Normal phi = normal(x);
                const Floats left = phi.tail - phi.distance * phi.density;  // derivative at -|x|; at |x| it is 1 - left
                const Floats gradient = load_bf16(grad_result + row * width + i) * (x > 0 ? 1.0f - left : left);
                store_bf16(grad_values + row * width + i, gradient);
                float* sum = sums.data() + block * width + i;
                store(sum, load(sum) + gradient);
            }
    std::fill(grad_bias, grad_bias + width, 0.0f);
    for (long block = 0; block < blocks; block++)
        for (long i = 0; i < width; i++) grad_bias[i] += sums[block * width + i];
}
