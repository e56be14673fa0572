// The vertical pass and the loop over the rows of the result, for a kind of vector and of horizontal pass.

namespace {

// Compute one row of the result, `length` bytes, from pairs of rows that are `row` words apart. `room` is the number of bytes up
// to the end of the result; those after the row may be overwritten.
template <typename Vector>
void vertical_pass(
    const int32_t* pairs, long row, const int16_t* weights, long num_pairs, int precision, uint8_t* to, long length, long room
) {
    const auto half = Vector::repeat(1 << (precision - 1));
    for (long d = 0; d < length; d += Vector::BYTES) {
        typename Vector::Words sums[4] = {half, half, half, half};
        for (long j = 0; j < num_pairs; j++) {
            const auto pair = Vector::repeat(load_weight_pair(weights + 2 * j));
            for (int v = 0; v < 4; v++)
                sums[v] = Vector::add_products(sums[v], Vector::load(pairs + j * row + d + v * Vector::BYTES / 4), pair);
        }
        for (int v = 0; v < 4; v++) sums[v] = Vector::shift_right(sums[v], precision);
        uint8_t last[Vector::BYTES];
        const bool fits = d + Vector::BYTES <= room;
        Vector::store_bytes(fits ? to + d : last, sums);
        if (!fits) std::memcpy(to + d, last, length - d);
    }
}

// See `Variant`. A row is resized horizontally when the first output needs it and kept while any output does, so memory grows with
// an output's support, not with the image.
template <typename Vector, typename Plan>
void resize(Image image, Box box, bool flip, uint8_t* to, long height, long width) {
    const Taps vertical(box.height, height);
    const Plan plan(Taps(box.width, width), flip);

    const long row = width * CHANNELS + 2 * Vector::BYTES, length = box.width * CHANNELS;
    const long capacity = vertical.stride + 4;  // capacity in pairs: at least two windows
    const uint8_t* end = image.pixels + image.height * image.width * CHANNELS;
    const uint8_t* result_end = to + height * width * CHANNELS;
    const Array<int32_t> pairs(capacity * row);
    const Array<uint8_t> copies(4 * (length + Plan::OVERREAD));
    const Array<int16_t> weights(vertical.stride + 2);
    long buffer_start = 0, buffer_end = 0;  // row pairs in the buffer, half-open range
    for (long i = 0; i < height; i++, to += width * CHANNELS) {
        const long first = vertical.first[i] / 2, odd = vertical.first[i] % 2, count = vertical.count[i];
        const long num_pairs = (odd + count + 1) / 2;
        while (buffer_end < first + num_pairs) {
            if (buffer_end + 2 > buffer_start + capacity) {
                std::memmove(pairs, &pairs[(first - buffer_start) * row], (buffer_end - first) * row * sizeof(int32_t));
                buffer_start = first;
            }
            const uint8_t* rows[4];
            for (long r = 0; r < 4; r++) {
                const long y = std::min(2 * buffer_end + r, box.height - 1);
                rows[r] = image.pixels + ((box.top + y) * image.width + box.left) * CHANNELS;
                if (rows[r] + length + Plan::OVERREAD > end)  // reading past the row would leave the image's memory
                    rows[r] = (uint8_t*)std::memcpy(&copies[r * (length + Plan::OVERREAD)], rows[r], length);
            }
            int32_t* outputs[2] = {&pairs[(buffer_end - buffer_start) * row], &pairs[(buffer_end + 1 - buffer_start) * row]};
            if (2 * buffer_end + 2 < box.height) plan.template resize<4>(rows, outputs);
            else plan.template resize<2>(rows, outputs);
            buffer_end += 2;
        }
        // If the window starts at the second row of a pair, the first row gets weight zero.
        std::memset(weights, 0, (vertical.stride + 2) * sizeof(int16_t));
        std::memcpy(&weights[odd], &vertical.weights[i * vertical.stride], count * sizeof(int16_t));
        const int32_t* window = &pairs[(first - buffer_start) * row];
        vertical_pass<Vector>(window, row, weights, num_pairs, vertical.precision, to, width * CHANNELS, result_end - to);
    }
}

}  // namespace
