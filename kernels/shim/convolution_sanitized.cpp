// Runs every kernel of kernels/convolution.cu for -fsanitize=address and -fsanitize=thread: what lies behind arrays is
// watched, and so are races between barriers. The numbers are not looked at; the tests of the trunk do that.
#define NYX_ON_HOST
#include "../convolution.cu"

#include "sanitized.h"

namespace {

// Two rows of 37 positions and 16 channels, 40 filters of 5 taps, of which some lie outside; then the same of 16
// filters with its input added.
template <void (*Kernel)(const Convolve)>
void run_convolution(unsigned size, unsigned tile, size_t shared) {
    constexpr unsigned kRows = 2, kLength = 37, kInputs = 16, kDepth = 5 * kInputs, kPitch = 96;
    const unsigned counts[] = {17, kLength}, outputs[] = {40, kInputs}, strides[] = {2, 1}, dilations[] = {1, 3};
    Array input(kRows * kLength * kInputs * size), weights(kFilters * kPitch * size), bias(kFilters * 4);
    for (unsigned i = 0; i < 2; i++) {
        Array output(kRows * counts[i] * outputs[i] * size);
        run<Convolve, Kernel>((kRows * counts[i] + tile - 1) / tile, kThreads, shared,
                              {input.at(), weights.at(), bias.at<const float>(), output.at(), kRows, kLength, kInputs,
                               counts[i], outputs[i], kDepth, strides[i], dilations[i], 6 * i, 1, i, 0});
    }
}

template <void (*WindowKernel)(const Window), void (*UnpackKernel)(const Unpack)>
void run_small(unsigned size) {
    Array input(2 * 11 * 8 * size), map(8 * 4), output(2 * 4 * 8 * size), back(2 * 4 * 5 * 4);
    const unsigned elements = 2 * 4 * 8 * size / 16;
    for (const float *scale : {map.at<const float>(), static_cast<const float *>(nullptr)}) {
        run<Window, WindowKernel>((elements + 255) / 256, kElementwise, 0,
                                  {input.at(), scale, map.at<const float>(), output.at(), 2, 11, 4, 8, 1, 3, 2, 1});
    }
    run<Unpack, UnpackKernel>(1, kElementwise, 0, {output.at(), back.at<float>(), 2 * 4, 8, 5, 0});
}

}  // namespace

int main() {
    run_convolution<convolve_f32>(4, 64, sizeof(SingleTiles));
    run_convolution<convolve_bf16>(2, 128, 2 * sizeof(Tiles<bf16>));
    run_convolution<convolve_f16>(2, 128, 2 * sizeof(Tiles<f16>));
    run_small<window_f32, unpack_f32>(4);
    run_small<window_bf16, unpack_bf16>(2);
    run_small<window_f16, unpack_f16>(2);
    return 0;
}
