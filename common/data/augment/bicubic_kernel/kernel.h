// Antialiased bicubic resizing of 8-bit RGB images, bit-exact with PyTorch's integer kernel: the interface of its variants.
//
// As in PyTorch (and Pillow), an output is a sum of bytes times 16-bit weights, computed first along the rows, then along the
// columns, and rounded to a byte after each pass. The integer sums are exact, so the result equals PyTorch's bit for bit. Only the
// order of summation differs: one instruction multiplies two taps of several outputs and adds the two products. Rows are processed
// in pairs; their results are interleaved as the two 16-bit halves of 32-bit words, the layout that the vertical pass reads.

#pragma once

#include <cstdint>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAS_VARIANTS 1
#endif

constexpr long CHANNELS = 3;

struct Image {
    const uint8_t* pixels;
    long height, width;
};

struct Box {
    long top, left, height, width;
};

// The kernel for one instruction set.
struct Variant {
    const char* name;
    bool (*is_supported)();  // by this processor
    // Resize the region `box` of an image to height x width pixels, with `flip` mirrored horizontally. May throw std::bad_alloc.
    void (*resize)(Image image, Box box, bool flip, uint8_t* to, long height, long width);
};

extern const Variant AVX2, AVX512, AVX512_VBMI;
