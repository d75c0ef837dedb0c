"""Runs ONNX Runtime as on a CPU without AVX-512 and VNNI, at full speed, on a CPU that has them.

    python benchmarks/without_vnni.py SCRIPT.py ARGUMENTS

ONNX Runtime picks its kernels with the CPUID instruction. `environment` writes a copy of the
installed package in which every CPUID instruction is replaced by an invalid one of the same length,
and a small library that handles it: it returns the real answer without AVX-512, VNNI and AMX. It
needs gcc and objdump. The installed package is not changed.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

CPUID, INVALID = b"\x0f\xa2", b"\x0f\x0b"  # cpuid, ud2
ANSWERS = r"""
#include <signal.h>
#include <ucontext.h>
static void answer(int number, siginfo_t *info, void *context) {
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    unsigned char *at = (unsigned char *)r[REG_RIP];
    if (at[0] != 0x0f || at[1] != 0x0b) { signal(SIGILL, SIG_DFL); return; }
    unsigned leaf = r[REG_RAX], sub = r[REG_RCX], a, b, c, d;
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "0"(leaf), "2"(sub));
    if (leaf == 7 && sub == 0) {
        /* AVX-512 F to VL */
        b &= ~(1u << 16 | 1u << 17 | 1u << 21 | 1u << 26 | 1u << 27 | 1u << 28 | 1u << 30
               | 1u << 31);
        /* AVX-512 VBMI, VNNI */
        c &= ~(1u << 1 | 1u << 6 | 1u << 11 | 1u << 12 | 1u << 14);
        /* AVX-512, AMX */
        d &= ~(1u << 2 | 1u << 3 | 1u << 8 | 1u << 22 | 1u << 23 | 1u << 24 | 1u << 25);
    }
    if (leaf == 7 && sub == 1) {
        a &= ~(1u << 4 | 1u << 5);             /* AVX-VNNI, AVX-512 BF16 */
        d &= ~(1u << 4 | 1u << 5 | 1u << 10);  /* AVX-VNNI-INT8, AVX-NE-CONVERT, AVX-VNNI-INT16 */
    }
    r[REG_RAX] = a; r[REG_RBX] = b; r[REG_RCX] = c; r[REG_RDX] = d; r[REG_RIP] += 2;
}
__attribute__((constructor)) static void install(void) {
    struct sigaction action = {0};
    action.sa_sigaction = answer;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGILL, &action, 0);
}
"""


def environment(folder: Path) -> dict[str, str]:
    """Environment variables with which Python imports the changed ONNX Runtime.

    Args:
        folder: An empty folder for the copy.

    Raises:
        SystemExit: If gcc or objdump is missing, or the package contains no CPUID instruction.
    """
    for tool in ("gcc", "objdump", "readelf"):
        if shutil.which(tool) is None:
            raise SystemExit(f"{tool} is not installed; install gcc and binutils")
    source = folder / "answers.c"
    source.write_text("#define _GNU_SOURCE\n" + ANSWERS)
    library = folder / "answers.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True)
    _copy(Path(find_spec("onnxruntime").origin).parent, folder / "package" / "onnxruntime")
    path = os.pathsep.join([str(folder / "package"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "LD_PRELOAD": str(library)}


def _copy(package: Path, copy: Path) -> None:
    """Copy the package: Python files as copies, large files as links, the kernels changed.

    Python files are copies so that they import from the new folder.
    """
    (copy / "capi").mkdir(parents=True)
    for folder in (package, package / "capi"):
        for path in folder.iterdir():
            target = copy / path.relative_to(package)
            if path.name in ("capi", "__pycache__"):
                continue
            if path.suffix == ".py":
                shutil.copy(path, target)
            elif path.name.startswith("onnxruntime_pybind11_state"):
                target.write_bytes(_without_cpuid(path))
            else:
                target.symlink_to(path)


def _without_cpuid(path: Path) -> bytes:
    sections = subprocess.run(
        ["readelf", "-SW", path], capture_output=True, text=True, check=True
    ).stdout
    text_section = re.search(r"\.text\s+PROGBITS\s+(\w+)\s+(\w+)", sections)
    address, offset = (int(value, 16) for value in text_section.groups())
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", "-j", ".text", path],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    changed = bytearray(path.read_bytes())
    addresses = re.findall(r"^\s*([0-9a-f]+):\s+cpuid\s*$", listing, re.M)
    if not addresses:
        raise SystemExit(f"{path}: contains no CPUID instruction, so its kernels cannot be chosen")
    for text in addresses:
        at = int(text, 16) - address + offset
        if changed[at : at + 2] != CPUID:
            raise SystemExit(
                f"{path}: has no CPUID instruction at {at:#x}, where objdump shows one"
            )
        changed[at : at + 2] = INVALID
    return bytes(changed)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        variables = environment(Path(scratch))
        sys.exit(subprocess.run([sys.executable, *sys.argv[1:]], env=variables).returncode)
