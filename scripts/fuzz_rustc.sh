#!/usr/bin/env bash
# The compiler, with coverage for a fuzzer in nyx and in the libraries that read other people's bytes for it.
compiler=$1
shift
crate=
for ((index = 1; index < $#; index++)); do
    next=$((index + 1))
    [ "${!index}" = --crate-name ] && crate=${!next}
done
case $crate in
    nyx | rust_hdf5 | npyz | py_literal | tokenizers | twobit | noodles_bgzf | noodles_csi | noodles_tabix)
        exec "$compiler" "$@" --cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
            -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
            -Cllvm-args=-sanitizer-coverage-trace-compares
        ;;
    *) exec "$compiler" "$@" ;;
esac
