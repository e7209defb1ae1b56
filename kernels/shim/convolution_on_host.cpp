// kernels/convolution.cu as a library for the processor.
#define NYX_ON_HOST
#include "../convolution.cu"

#include "library.h"

#define NYX_KERNELS(number)                                                          \
    NYX_KERNEL(Convolve, convolve_##number), NYX_KERNEL(Window, window_##number), \
        NYX_KERNEL(Unpack, unpack_##number)

NYX_LIBRARY(NYX_KERNELS(f32), NYX_KERNELS(bf16), NYX_KERNELS(f16))
