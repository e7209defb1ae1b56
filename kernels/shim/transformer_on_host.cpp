// kernels/transformer.cu as a library for the processor.
#define NYX_ON_HOST
#include "../transformer.cu"

#include "library.h"

#define NYX_KERNELS(number)                                                                                \
    NYX_KERNEL(Embed, embed_##number), NYX_KERNEL(Norm, norm_##number), NYX_KERNEL(Activate, activate_##number), \
        NYX_KERNEL(Rotate, rotate_##number), NYX_KERNEL(Pool, pool_##number)

#define NYX_WIDTHS(number)                                                            \
    NYX_KERNEL(Attend, attend_##number##_32), NYX_KERNEL(Attend, attend_##number##_64), \
        NYX_KERNEL(Attend, attend_##number##_80), NYX_KERNEL(Attend, attend_##number##_128)

NYX_LIBRARY(NYX_KERNELS(f32), NYX_KERNELS(bf16), NYX_KERNELS(f16), NYX_KERNEL(Attend, attend_f32), NYX_WIDTHS(bf16),
            NYX_WIDTHS(f16))
