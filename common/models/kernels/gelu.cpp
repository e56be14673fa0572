// Owns GELU(x + bias) on bf16 values with an fp32 bias, and its gradients, in one pass each.
//
// Shapes: values (rows, width) in bf16, bias (width) in fp32; width is a multiple of LANES. The gradient of the bias is summed
// by blocks of rows in one order: it does not depend on the number of threads.

namespace {

constexpr long ROWS = 256;  // a block of rows, one task

constexpr float FAR = 16;  // beyond it nothing is left of a tail

struct Normal {
    Floats size, density, tail;
};

// The standard normal distribution at |x|, or at FAR, within 7.5e-8 (Abramowitz and Stegun, 26.2.17): its tail is what lies
// beyond. A NaN stays one.
inline Normal normal(Floats x) {
    const Floats far = FAR - Floats{}, distance = absolute(x), size = far < distance ? far : distance;
    const Floats power = size * size * -0.72134752f, whole = nearest(power);  // exp(-x^2 / 2) = 2^power
    const Floats density = power_of_two(whole, power - whole) * 0.39894228f;
    const Floats t = reciprocal(0.2316419f * size + 1.0f);
    Floats sum = 1.330274429f * t - 1.821255978f;
    sum = sum * t + 1.781477937f;
    sum = sum * t - 0.356563782f;
    sum = sum * t + 0.319381530f;
    return {size, density, density * (sum * t)};
}

}  // namespace

extern "C" void gelu_forward(const uint16_t* values, const float* bias, uint16_t* result, long rows, long width) {
#pragma omp parallel for schedule(static)
    for (long block = 0; block < (rows + ROWS - 1) / ROWS; block++)
        for (long row = block * ROWS; row < std::min(rows, (block + 1) * ROWS); row++)
            for (long i = 0; i < width; i += LANES) {
                const Floats x = widen(values + row * width + i) + load(bias + i);
                const Normal at = normal(x);
                narrow(result + row * width + i, (x > 0 ? x : 0.0f) - at.size * at.tail);
            }
}

extern "C" void gelu_backward(
    const uint16_t* of_result, const uint16_t* values, const float* bias, uint16_t* of_values, float* of_bias, long rows, long width
) {
    const long blocks = (rows + ROWS - 1) / ROWS;
    std::vector<float> sums(blocks * width, 0.0f);
#pragma omp parallel for schedule(static)
    for (long block = 0; block < blocks; block++)
        for (long row = block * ROWS; row < std::min(rows, (block + 1) * ROWS); row++)
            for (long i = 0; i < width; i += LANES) {
                const Floats x = widen(values + row * width + i) + load(bias + i);
                const Normal at = normal(x);
                const Floats falling = at.tail - at.size * at.density;  // the derivative at -|x|; at |x| it is 1 - that
                const Floats gradient = widen(of_result + row * width + i) * (x > 0 ? 1.0f - falling : falling);
                narrow(of_values + row * width + i, gradient);
                float* sum = sums.data() + block * width + i;
                store(sum, load(sum) + gradient);
            }
    std::fill(of_bias, of_bias + width, 0.0f);
    for (long block = 0; block < blocks; block++)
        for (long i = 0; i < width; i++) of_bias[i] += sums[block * width + i];
}
