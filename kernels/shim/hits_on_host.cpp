// kernels/hits.cu as a program for the processor; see run_file.h.
#define NYX_ON_HOST
#include "../hits.cu"

#include "run_file.h"

int main(int argc, char **argv) {
    return shim::run_file<Arguments>(
        argc, argv, {{"hits_projected", hits_projected}, {"hits_hypothetical", hits_hypothetical}});
}
