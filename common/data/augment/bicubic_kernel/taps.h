// The weights of a resize in one direction. Each variant compiles this file for its own instruction set.

namespace {

// Keys' cubic convolution kernel with a = -1/2, for distances x >= 0.
inline double cubic(double x) {
    const double near = (1.5 * x - 2.5) * x * x + 1.0;          // ((a + 2) x - (a + 3)) x x + 1
    const double far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0;  // ((a x - 5 a) x + 8 a) x - 4 a
    return x < 1.0 ? near : x < 2.0 ? far : 0.0;
}

// Output i of one direction is the sum of weights[i * stride + k] * input[first[i] + k] over k < count[i], plus half of
// 2^precision, shifted down by precision. Each output's weights are followed by at least one zero weight.
class Taps {
   public:
    const long inputs, outputs;
    const double scale = (double)inputs / outputs, factor = std::max(scale, 1.0), support = 2.0 * factor;
    const long most = (long)std::ceil(support) * 2 + 1;  // upper limit of `count`
    const long stride = (most + 2) / 2 * 2;
    const Array<long> first{outputs}, count{outputs};
    const Array<int16_t> weights{outputs * stride};
    int precision = 0;
    long longest = 0;  // the largest `count`

    Taps(long inputs, long outputs) : inputs(inputs), outputs(outputs) {
        const Array<double> exact(most * outputs);  // tap-major: the weights of one tap are contiguous over the outputs
        const double top = compute_exact(exact);
        // The largest precision at which the largest weight still fits into 16 bits.
        while (precision < 22 && (int)(0.5 + top * (1 << (precision + 1))) < 1 << 15) precision++;
        for (long i = 0; i < outputs; i++)
            for (long k = 0; k < count[i]; k++) {
                const double weight = exact[k * outputs + i] * (1 << precision);
                weights[i * stride + k] = (int)(weight < 0 ? weight - 0.5 : weight + 0.5);
            }
    }

   private:
    // Set the taps' places and compute their exact weights; return the largest.
    double compute_exact(double* exact) {
        const Array<double> centers(outputs), starts(outputs), totals(outputs), largest(outputs);
        for (long i = 0; i < outputs; i++) {
            centers[i] = scale * (i + 0.5);
            starts[i] = first[i] = std::max((long)(centers[i] - support + 0.5), 0L);
            count[i] = std::clamp(std::min((long)(centers[i] + support + 0.5), inputs) - first[i], 0L, most);
            longest = std::max(longest, count[i]);
        }
        const double inverse = 1.0 / factor;
        // Tap by tap, so that the compiler vectorizes over the outputs.
        for (long k = 0; k < longest; k++, exact += outputs)
            for (long i = 0; i < outputs; i++) {
                const double weight = cubic(std::abs((starts[i] + k - centers[i] + 0.5) * inverse));
                exact[i] = k < count[i] ? weight : 0.0;
                totals[i] += exact[i];
            }
        for (long k = 0; k < longest; k++) {
            exact -= outputs;
            for (long i = 0; i < outputs; i++) {
                exact[i] /= totals[i];
                largest[i] = largest[i] < exact[i] ? exact[i] : largest[i];
            }
        }
        double top = 0.0;
        for (long i = 0; i < outputs; i++) top = std::max(top, largest[i]);
        return top;
    }
};

inline int32_t load_weight_pair(const int16_t* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof(pair));
    return pair;
}

}  // namespace
