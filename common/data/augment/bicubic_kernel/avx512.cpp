// The variant for AVX-512 without VBMI and VNNI (Skylake-SP and later).

#include "kernel.h"

#if HAS_VARIANTS
#include "target.h"

BEGIN_TARGET("avx512f,avx512bw,avx512dq,avx512vl")
#include "taps.h"
#include "rows.h"
#include "resize.h"
#include "vector512.h"
END_TARGET

const Variant AVX512 = {
    "AVX-512",
    [] {
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
            __builtin_cpu_supports("avx512vl");
    },
    resize<Vector<false>, RowPlan<Vector<false>>>,
};
#endif
