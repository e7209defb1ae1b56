// Runs every kernel of kernels/transformer.cu once or twice, for -fsanitize=address and -fsanitize=thread: what lies
// behind arrays is watched, and so are races between barriers. The numbers are not looked at; the tests of the
// encoder do that.
#define NYX_ON_HOST
#include "../transformer.cu"

#include "sanitized.h"

namespace {

constexpr unsigned kRows = 7, kHidden = 80, kBytes = kRows * kHidden;

template <void (*EmbedKernel)(const Embed), void (*NormKernel)(const Norm), void (*ActivateKernel)(const Activate),
          void (*RotateKernel)(const Rotate), void (*PoolKernel)(const Pool)>
void run_small(unsigned size) {
    const unsigned tokens[kRows] = {0, 1, 2, 3, 4, 5, 6}, ranges[] = {0, 1, 1, kRows};
    Array table(kBytes * size), more(kBytes * size), weights(kHidden * 4), bias(kHidden * 4), output(kBytes * size);
    const unsigned elements = kBytes * size / 16, blocks = (elements + 255) / 256;
    for (const float *norm : {weights.at<const float>(), static_cast<const float *>(nullptr)}) {
        run<Embed, EmbedKernel>(2, 128, 4 * kHidden * 4,
                                {tokens, tokens, table.at(), more.at(), norm, bias.at<float>(), output.at(), kRows,
                                 kHidden, 1e-5f, 0});
    }
    run<Norm, NormKernel>(2, 128, 4 * kHidden * 4,
                          {table.at(), weights.at<float>(), nullptr, output.at(), kRows, kHidden, 1e-5f, 0});
    Array wide(2 * kBytes * size);
    for (unsigned function : {kRelu, kGelu, kGeluTanh, kSilu, kTanh}) {
        run<Activate, ActivateKernel>(blocks, 256, 0, {wide.at(), output.at(), kRows, kHidden, function, 1});
    }
    // Two heads of 16: queries, keys and values of 96 numbers.
    Array projected(kRows * 96 * size), angles(kRows * 8 * 2 * 4);
    run<Rotate, RotateKernel>(1, 256, 0, {projected.at(), tokens, angles.at<float>(), kRows, 2, 16, 96});
    Array pooled(2 * kHidden * 4);
    run<Pool, PoolKernel>(1, 256, 0, {table.at(), ranges, pooled.at<float>(), 2, kHidden});
}

template <void (*Kernel)(const Attend)>
void run_attention(unsigned size, unsigned width, size_t shared, unsigned queries) {
    const unsigned lengths[] = {130, 9}, heads = 2;
    std::vector<Tile> tiles;
    unsigned start = 0;
    for (unsigned length : lengths) {
        for (unsigned query = 0; query < length; query += queries) tiles.push_back({start, length, query, 0});
        start += length;
    }
    Array inputs(size_t(start) * 3 * heads * width * size), output(size_t(start) * heads * width * size);
    const float slopes[] = {0.5f, 0.25f};
    run<Attend, Kernel>(unsigned(tiles.size()) * heads, 128, shared,
                        {inputs.at(), output.at(), tiles.data(), slopes, unsigned(tiles.size()), heads, width, 0.1f});
}

constexpr size_t shared_of(unsigned width) { return 5 * 64 * (width + 8) * 2; }

}  // namespace

int main() {
    run_small<embed_f32, norm_f32, activate_f32, rotate_f32, pool_f32>(4);
    run_small<embed_bf16, norm_bf16, activate_bf16, rotate_bf16, pool_bf16>(2);
    run_attention<attend_f32>(4, 80, ((16 + 2 * 32) * 129 + 4 * 32) * 4, 16);
    run_attention<attend_bf16_32>(2, 24, shared_of(32), 64);
    run_attention<attend_f16_64>(2, 64, shared_of(64), 64);
    return 0;
}
