// What each variant includes before its own code: the macros that delimit the code for its instruction set, and arrays.

#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#include "kernel.h"

#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN_TARGET(features) PRAGMA(clang attribute push(__attribute__((target(features))), apply_to = function))
#define END_TARGET PRAGMA(clang attribute pop)
#else
#define BEGIN_TARGET(features) PRAGMA(GCC push_options) PRAGMA(GCC target(features))
#define END_TARGET PRAGMA(GCC pop_options)
#endif

namespace {

// An array of zeros at first. std::vector would be unsafe here: the linker keeps one copy of each of its functions, which may be
// one that another variant compiled for an instruction set that this processor lacks. What is in this namespace is not merged.
template <typename T>
class Array {
   public:
    explicit Array(long size) : values((T*)std::calloc(std::max(size, 1L), sizeof(T))) {
        if (!values) throw std::bad_alloc();
    }
    ~Array() { std::free(values); }
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    operator T*() const { return values; }

   private:
    T* const values;
};

}  // namespace
