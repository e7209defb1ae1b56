"""Compiles kernels/*.cu with NVRTC and ptxas, for scripts/kernels.sh, which says what is checked."""

import ctypes
import re
import subprocess
import sys
import tempfile
from pathlib import Path

KERNELS = Path("kernels")
TARGET = "compute_80"
MACHINES = ["sm_80", "sm_90"]


class Nvrtc:
    """NVIDIA's run-time compiler."""

    def __init__(self, packages):
        self.library = ctypes.CDLL(str(packages / "cuda_nvrtc/lib/libnvrtc.so.12"))

    def text(self, program, what):
        """Returns the program's log or PTX."""
        size = ctypes.c_size_t()
        getattr(self.library, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        getattr(self.library, f"nvrtcGet{what}")(program, buffer)
        return buffer.value.decode()

    def compile(self, path):
        """Returns the PTX of a kernel; ends the program on any message."""
        program = ctypes.c_void_p()
        create = self.library.nvrtcCreateProgram
        # The name goes into symbols, so it must not say where the project lies.
        headers = sorted(KERNELS.glob("*.cuh"))
        texts = (ctypes.c_char_p * len(headers))(*[header.read_bytes() for header in headers])
        names = (ctypes.c_char_p * len(headers))(*[header.name.encode() for header in headers])
        source = path.read_bytes()
        if create(ctypes.byref(program), source, path.name.encode(), len(headers), texts, names):
            sys.exit("NVRTC does not start")
        options = [f"--gpu-architecture={TARGET}".encode(), b"--std=c++17"]
        failed = self.library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
        log = self.text(program, "ProgramLog").strip()
        if failed or log:
            sys.exit(f"{path}: NVRTC says\n{log}")
        return self.text(program, "PTX")


def assemble(ptxas, ptx, machine):
    """Returns what ptxas says of the kernels on a machine; ends the program on a warning or a spill."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [ptxas, "-v", "--warning-as-error", f"-arch={machine}", source, "-o", Path(folder) / "kernel.cubin"]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
    said = ran.stdout + ran.stderr
    if ran.returncode or "warning" in said:
        sys.exit(f"ptxas for {machine} says\n{said}")
    kernels = re.findall(
        r"entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
        r".*?Used (\d+) registers(?:, (\d+) bytes smem)?",
        said,
        re.DOTALL,
    )
    if not kernels:
        sys.exit(f"ptxas for {machine} names no kernel:\n{said}")
    for name, stack, stores, loads, registers, shared in kernels:
        print(f"  {machine} {name}: {registers} registers, {shared or 0} bytes of static shared memory, "
              f"{stack} of stack, {stores} + {loads} spilled")
        if int(stores) or int(loads):
            sys.exit(f"{name} spills registers on {machine}")


def main():
    packages, write = Path(sys.argv[1]), "--write" in sys.argv[2:]
    ptxas = packages / "cuda_nvcc/bin/ptxas"
    ptxas.chmod(0o755)
    nvrtc, stale = Nvrtc(packages), []
    for path in sorted(KERNELS.glob("*.cu")):
        print(path)
        ptx = nvrtc.compile(path)
        for machine in MACHINES:
            assemble(ptxas, ptx, machine)
        kept = KERNELS / "ptx" / f"{path.stem}.ptx"
        if write:
            kept.write_text(ptx)
        elif not kept.exists() or kept.read_text() != ptx:
            stale.append(str(kept))
    if stale:
        sys.exit(f"stale: {', '.join(stale)}; run scripts/kernels.sh --write")


if __name__ == "__main__":
    main()
