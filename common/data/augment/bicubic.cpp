// Antialiased bicubic resizing of 8-bit RGB images with AVX-512, bit-exact with PyTorch's integer kernel. Python extension module.
//
// As in PyTorch (and Pillow), an output is a sum of bytes times 16-bit weights, computed first along the rows, then along the
// columns, and rounded to a byte after each pass. The integer sums are exact, so the result equals PyTorch's bit for bit. Only the
// order of summation differs: one instruction (VNNI) accumulates two taps of 15 or 16 outputs, and one permutation (VBMI) moves
// the bytes of a row to their lanes. Rows are processed in pairs; their results are interleaved as the two 16-bit halves of 32-bit
// words, the layout that the vertical pass reads.

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_KERNEL 1
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")
#endif

namespace {

constexpr long CHANNELS = 3;
constexpr long LANES = 16;
constexpr long DOUBLES = 8;
constexpr long WINDOW = 64;  // bytes that one permutation can select from
constexpr uint64_t LOW_BYTES = 0x5555555555555555;
constexpr uint32_t LOW_HALVES = 0x55555555;

struct Image {
    const uint8_t* pixels;
    long height, width;
};

struct Box {
    long top, left, height, width;
};

// Output i of one direction is the sum of weights[i * stride + k] * input[first[i] + k] over k < count[i], plus half of
// 2^precision, shifted down by precision.
struct Taps {
    long stride;
    int precision;
    std::vector<long> first, count;
    std::vector<int16_t> weights;
};

// Keys' cubic convolution kernel with a = -1/2, for distances x >= 0.
inline __m512d cubic(__m512d x) {
    const __m512d one = _mm512_set1_pd(1.0), two = _mm512_set1_pd(2.0);
    __m512d near = _mm512_fmsub_pd(_mm512_set1_pd(1.5), x, _mm512_set1_pd(2.5));  // ((a + 2) x - (a + 3)) x x + 1
    near = _mm512_fmadd_pd(_mm512_mul_pd(near, x), x, one);
    __m512d far = _mm512_fmadd_pd(_mm512_set1_pd(-0.5), x, _mm512_set1_pd(2.5));  // ((a x - 5 a) x + 8 a) x - 4 a
    far = _mm512_fmadd_pd(_mm512_fmsub_pd(far, x, _mm512_set1_pd(4.0)), x, two);
    far = _mm512_maskz_mov_pd(_mm512_cmp_pd_mask(x, two, _CMP_LT_OQ), far);
    return _mm512_mask_mov_pd(far, _mm512_cmp_pd_mask(x, one, _CMP_LT_OQ), near);
}

// Compute the taps for resizing `inputs` to `outputs` pixels. Each output's weights are followed by at least one zero weight.
void compute_taps(long inputs, long outputs, Taps& taps) {
    const double scale = (double)inputs / outputs, factor = std::max(scale, 1.0), support = 2.0 * factor;
    const long most = (long)std::ceil(support) * 2 + 1, padded = (outputs + DOUBLES - 1) / DOUBLES * DOUBLES;
    taps.stride = (most + 2) / 2 * 2;
    taps.first.resize(padded);
    taps.count.resize(padded);
    std::vector<double> exact(most * padded);  // tap-major: the weights of one tap are contiguous over the outputs
    __m512d largest = _mm512_setzero_pd();
    for (long i = 0; i < padded; i += DOUBLES) {
        double centers[DOUBLES];
        for (long lane = 0; lane < DOUBLES; lane++) {
            const double center = scale * (std::min(i + lane, outputs - 1) + 0.5);
            const long first = std::max((long)(center - support + 0.5), 0L);
            centers[lane] = center;
            taps.first[i + lane] = first;
            taps.count[i + lane] = std::clamp(std::min((long)(center + support + 0.5), inputs) - first, 0L, most);
        }
        const __m512d center = _mm512_loadu_pd(centers), inverse = _mm512_set1_pd(1.0 / factor);
        const __m512i first = _mm512_loadu_si512(&taps.first[i]), count = _mm512_loadu_si512(&taps.count[i]);
        const long end = _mm512_reduce_max_epi64(count);
        __m512d total = _mm512_setzero_pd();
        for (long k = 0; k < end; k++) {
            const __m512i number = _mm512_set1_epi64(k);
            const __m512d place = _mm512_cvtepi64_pd(_mm512_add_epi64(first, number));
            const __m512d distance = _mm512_add_pd(_mm512_sub_pd(place, center), _mm512_set1_pd(0.5));
            const __m512d weight = cubic(_mm512_abs_pd(_mm512_mul_pd(distance, inverse)));
            _mm512_storeu_pd(&exact[k * padded + i], _mm512_maskz_mov_pd(_mm512_cmplt_epi64_mask(number, count), weight));
            total = _mm512_add_pd(total, _mm512_loadu_pd(&exact[k * padded + i]));
        }
        for (long k = 0; k < end; k++) {
            const __m512d weight = _mm512_div_pd(_mm512_loadu_pd(&exact[k * padded + i]), total);
            _mm512_storeu_pd(&exact[k * padded + i], weight);
            largest = _mm512_max_pd(largest, weight);
        }
    }
    // The largest precision at which the largest weight still fits into 16 bits.
    const double top = _mm512_reduce_max_pd(largest);
    for (taps.precision = 0; taps.precision < 22; taps.precision++)
        if ((int)(0.5 + top * (1 << (taps.precision + 1))) >= 1 << 15) break;
    taps.weights.assign(padded * taps.stride, 0);
    for (long i = 0; i < outputs; i++)
        for (long k = 0; k < taps.count[i]; k++) {
            const double weight = exact[k * padded + i] * (1 << taps.precision);
            taps.weights[i * taps.stride + k] = (int)(weight < 0 ? weight - 0.5 : weight + 0.5);
        }
}

inline int32_t load_weight_pair(const int16_t* from) {
    int32_t pair;
    std::memcpy(&pair, from, sizeof(pair));
    return pair;
}

// Neighboring outputs of a row that are summed in one register. The bytes of their first pairs of taps lie within one window of
// the row, starting at byte `start`; each next pair lies two pixels further. One window covers `steps` pairs. `weights` is the
// offset of the block's first weight; each step has 16 pairs of weights.
struct Block {
    long start, pairs, steps, weights;
    uint8_t byte_indices[WINDOW];
};

struct RowPlan {
    long pixels;  // outputs per block
    int precision;
    std::vector<Block> blocks;
    std::vector<int32_t> weights;
};

// Return the largest number of outputs, limited by the lanes, whose bytes for one pair of taps fit into a window.
long pixels_per_block(const Taps& taps, long outputs) {
    for (long pixels = std::min(LANES / CHANNELS, outputs); pixels > 1; pixels--) {
        bool fits = true;
        for (long i = 0; i + pixels <= outputs && fits; i++)
            fits = CHANNELS * (taps.first[i + pixels - 1] - taps.first[i] + 2) <= WINDOW;
        if (fits) return pixels;
    }
    return 1;
}

// With `flip`, the outputs are in reverse order.
void compute_blocks(const Taps& taps, long outputs, bool flip, RowPlan& plan) {
    plan.pixels = pixels_per_block(taps, outputs);
    plan.precision = taps.precision;
    plan.weights.clear();
    plan.blocks.resize((outputs + plan.pixels - 1) / plan.pixels);
    long output = 0;
    for (Block& block : plan.blocks) {
        const long pixels = std::min(plan.pixels, outputs - output);
        const long lowest = flip ? outputs - output - pixels : output, start = taps.first[lowest];
        const long most = *std::max_element(&taps.count[lowest], &taps.count[lowest] + pixels);
        block = {start * CHANNELS, (most + 1) / 2, 0, (long)plan.weights.size(), {}};
        plan.weights.resize(block.weights + block.pairs * LANES, 0);
        for (long p = 0; p < pixels; p++) {
            const long i = flip ? lowest + pixels - 1 - p : lowest + p;
            for (long c = 0; c < CHANNELS; c++) {
                const long lane = p * CHANNELS + c, place = CHANNELS * (taps.first[i] - start) + c;
                block.byte_indices[4 * lane] = place;
                block.byte_indices[4 * lane + 2] = place + CHANNELS;
                for (long j = 0; j < block.pairs; j++)
                    plan.weights[block.weights + j * LANES + lane] = load_weight_pair(&taps.weights[i * taps.stride + 2 * j]);
            }
        }
        const long span = *std::max_element(block.byte_indices, block.byte_indices + WINDOW) + 1;
        block.steps = (WINDOW - span) / (2 * CHANNELS) + 1;
        output += pixels;
    }
}

// Resize two or four rows horizontally; each pair of rows is written interleaved to one entry of `to`. Reads up to WINDOW bytes
// past the end of a row.
template <int ROWS>
inline void horizontal_pass(const uint8_t* const* rows, const RowPlan& plan, int32_t* const* to) {
    const __m512i half = _mm512_set1_epi32(1 << (plan.precision - 1)), black = _mm512_setzero_si512();
    const __m512i white = _mm512_set1_epi16(255), two_pixels = _mm512_set1_epi8(2 * CHANNELS);
    const __m128i shift = _mm_cvtsi32_si128(plan.precision);
    long filled = 0;
    for (const Block& block : plan.blocks) {
        const int32_t* weights = &plan.weights[block.weights];
        __m512i sums[ROWS];
        for (int r = 0; r < ROWS; r++) sums[r] = half;
        for (long j = 0; j < block.pairs; j += block.steps) {
            __m512i windows[ROWS], byte_indices = _mm512_loadu_si512(block.byte_indices);
            for (int r = 0; r < ROWS; r++) windows[r] = _mm512_loadu_si512(rows[r] + block.start + j * 2 * CHANNELS);
            for (long step = j; step < std::min(j + block.steps, block.pairs); step++) {
                const __m512i pair = _mm512_loadu_si512(weights + step * LANES);
                for (int r = 0; r < ROWS; r++)
                    sums[r] = _mm512_dpwssd_epi32(sums[r], _mm512_maskz_permutexvar_epi8(LOW_BYTES, byte_indices, windows[r]), pair);
                byte_indices = _mm512_add_epi8(byte_indices, two_pixels);
            }
        }
        for (int r = 0; r < ROWS; r++) sums[r] = _mm512_sra_epi32(sums[r], shift);
        for (int r = 0; r < ROWS; r += 2) {
            const __m512i both = _mm512_mask_mov_epi16(_mm512_slli_epi32(sums[r + 1], 16), LOW_HALVES, sums[r]);
            _mm512_storeu_si512(to[r / 2] + filled, _mm512_min_epi16(_mm512_max_epi16(both, black), white));
        }
        filled += plan.pixels * CHANNELS;
    }
}

// Compute one row of the result, `length` bytes, from pairs of rows that are `row` words apart.
void vertical_pass(const int32_t* pairs, long row, const int16_t* weights, long num_pairs, int precision, uint8_t* to, long length) {
    const __m512i half = _mm512_set1_epi32(1 << (precision - 1));
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m128i shift = _mm_cvtsi32_si128(precision);
    for (long d = 0; d < length; d += 4 * LANES) {
        __m512i sums[4] = {half, half, half, half};
        for (long j = 0; j < num_pairs; j++) {
            const __m512i pair = _mm512_set1_epi32(load_weight_pair(weights + 2 * j));
            for (int v = 0; v < 4; v++)
                sums[v] = _mm512_dpwssd_epi32(sums[v], _mm512_loadu_si512(pairs + j * row + d + v * LANES), pair);
        }
        for (int v = 0; v < 4; v++) sums[v] = _mm512_sra_epi32(sums[v], shift);
        const __m512i low = _mm512_packs_epi32(sums[0], sums[1]), high = _mm512_packs_epi32(sums[2], sums[3]);
        const __m512i bytes = _mm512_permutexvar_epi32(in_order, _mm512_packus_epi16(low, high));
        const long rest = length - d;
        _mm512_mask_storeu_epi8(to + d, rest < WINDOW ? (1ULL << rest) - 1 : ~0ULL, bytes);
    }
}

// Resize the region `box` of an image to height x width pixels, with `flip` mirrored horizontally. A row is resized horizontally
// when the first output needs it and kept while any output does, so memory grows with an output's support, not with the image.
void resize(Image image, Box box, bool flip, uint8_t* to, long height, long width) {
    Taps horizontal, vertical;
    RowPlan plan;
    compute_taps(box.width, width, horizontal);
    compute_taps(box.height, height, vertical);
    compute_blocks(horizontal, width, flip, plan);

    const long row = (width + plan.pixels) * CHANNELS + 4 * LANES, length = box.width * CHANNELS;
    const long capacity = vertical.stride + 4;  // capacity in pairs: at least two windows
    const uint8_t* end = image.pixels + image.height * image.width * CHANNELS;
    std::vector<int32_t> pairs(capacity * row);
    std::vector<uint8_t> copies(4 * (length + WINDOW));
    std::vector<int16_t> weights(vertical.stride + 2);
    long buffer_start = 0, buffer_end = 0;  // row pairs in the buffer, half-open range
    for (long i = 0; i < height; i++) {
        const long first = vertical.first[i] / 2, odd = vertical.first[i] % 2, count = vertical.count[i];
        const long num_pairs = (odd + count + 1) / 2;
        while (buffer_end < first + num_pairs) {
            if (buffer_end + 2 > buffer_start + capacity) {
                std::copy(&pairs[(first - buffer_start) * row], &pairs[0] + (buffer_end - buffer_start) * row, &pairs[0]);
                buffer_start = first;
            }
            const uint8_t* rows[4];
            for (long r = 0; r < 4; r++) {
                const long y = std::min(2 * buffer_end + r, box.height - 1);
                rows[r] = image.pixels + ((box.top + y) * image.width + box.left) * CHANNELS;
                if (rows[r] + length + WINDOW > end)  // reading past the row would leave the image's memory
                    rows[r] = (uint8_t*)std::memcpy(&copies[r * (length + WINDOW)], rows[r], length);
            }
            int32_t* outputs[2] = {&pairs[(buffer_end - buffer_start) * row], &pairs[(buffer_end + 1 - buffer_start) * row]};
            if (2 * buffer_end + 2 < box.height) horizontal_pass<4>(rows, plan, outputs);
            else horizontal_pass<2>(rows, plan, outputs);
            buffer_end += 2;
        }
        // If the window starts at the second row of a pair, the first row gets weight zero.
        weights[0] = 0;
        std::copy_n(&vertical.weights[i * vertical.stride], count, &weights[odd]);
        std::fill(&weights[odd + count], &weights[0] + weights.size(), 0);
        const int32_t* window = &pairs[(first - buffer_start) * row];
        uint8_t* result_row = to + i * width * CHANNELS;
        vertical_pass(window, row, weights.data(), num_pairs, vertical.precision, result_row, width * CHANNELS);
    }
}

}  // namespace

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace {

PyObject* available(PyObject*, PyObject*) {
#if HAS_KERNEL
    const bool has_all = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
        __builtin_cpu_supports("avx512vnni");
    return PyBool_FromLong(has_all);
#else
    Py_RETURN_FALSE;
#endif
}

PyObject* resize_into(PyObject*, PyObject* arguments) {
#if HAS_KERNEL
    Py_buffer from, to;
    PyObject *image, *result;
    Box box;
    int flip;
    if (!PyArg_ParseTuple(arguments, "OllllpO", &image, &box.top, &box.left, &box.height, &box.width, &flip, &result)) return nullptr;
    if (PyObject_GetBuffer(image, &from, PyBUF_ND) < 0) return nullptr;
    if (PyObject_GetBuffer(result, &to, PyBUF_ND | PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&from);
        return nullptr;
    }
    bool fits = true;
    for (const Py_buffer* buffer : {&from, &to})
        fits = fits && buffer->itemsize == 1 && buffer->ndim == 3 && buffer->shape[2] == CHANNELS && buffer->len > 0;
    fits = fits && box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 && box.height <= from.shape[0] - box.top &&
        box.width <= from.shape[1] - box.left;
    bool allocated = true;
    if (fits) {
        Py_BEGIN_ALLOW_THREADS;
        try {
            resize({(const uint8_t*)from.buf, from.shape[0], from.shape[1]}, box, flip, (uint8_t*)to.buf, to.shape[0], to.shape[1]);
        } catch (const std::bad_alloc&) {
            allocated = false;
        }
        Py_END_ALLOW_THREADS;
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (!allocated) return PyErr_NoMemory();
    if (fits) Py_RETURN_NONE;
    PyErr_SetString(PyExc_ValueError, "image and result must be (height, width, 3) bytes, and the box must lie within the image");
    return nullptr;
#else
    PyErr_SetString(PyExc_NotImplementedError, "this processor does not support the kernel");
    return nullptr;
#endif
}

PyMethodDef METHODS[] = {
    {"available", available, METH_NOARGS, "Return whether this processor supports the kernel."},
    {"resize_into", resize_into, METH_VARARGS, "Resize a box (top, left, height, width) of an image into another image."},
    {nullptr, nullptr, 0, nullptr},
};

PyModuleDef MODULE = {PyModuleDef_HEAD_INIT, "_bicubic", nullptr, -1, METHODS, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit__bicubic() { return PyModule_Create(&MODULE); }
