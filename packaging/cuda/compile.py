"""Compiles one .cu for several architectures with NVIDIA's compiler library.

usage: compile.py LIBNVRTC SOURCE INCLUDE_FOLDER OUT_FOLDER ARCHITECTURE...

sm_NN gives STEM.sm_NN.cubin, compute_NN gives STEM.compute_NN.ptx; beside each lies its .log with what the assembler said of
registers and spills. STEM.FIRST_ARCHITECTURE.d tells ninja what was included.
"""

import ctypes
import os
import pathlib
import re
import sys

# What docs/numerics.md asks of a compiler: nothing is contracted, denormals stay, every operation is rounded correctly.
NUMERICS = ["--fmad=false", "--ftz=false", "--prec-div=true", "--prec-sqrt=true"]
# A driver that compiles PTX may contract what does not say .rn, and what is approximate has other bits on other cards.
ARITHMETIC = re.compile(r"\b(?:add|sub|mul|mad|fma|div|rcp|sqrt|rsqrt|ex2|lg2|sin|cos|tanh)\.[\w.]*f(?:16|32|64)\b")
EXACT = re.compile(r"(?:add|sub|mul|fma|div|rcp|sqrt)\.rn\.f(?:32|64)")
# The kernels of `fast`, by their names, which promise nothing across cards, may have these besides.
FAST = re.compile(r"\.entry\s+\w+_(?:fp16|bf16)\b")
APPROXIMATE = re.compile(r"(?:ex2|lg2)\.approx\.(?:ftz\.)?f32")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


class Nvrtc:
    def __init__(self, library):
        self._library = ctypes.CDLL(library)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p

    def compile(self, source, options, kind):
        """The code (kind CUBIN or PTX) and the log. Ends the program where the source is wrong."""
        program = ctypes.c_void_p()
        self._call("nvrtcCreateProgram", ctypes.byref(program), source.read_bytes(), os.fsencode(source), 0, None, None)
        words = (ctypes.c_char_p * len(options))(*map(os.fsencode, options))
        failed = self._library.nvrtcCompileProgram(program, len(options), words)
        log = self._get(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if failed:
            sys.exit(log or f"nvrtcCompileProgram: {self._error(failed)}")
        code = self._get(program, kind)
        self._call("nvrtcDestroyProgram", ctypes.byref(program))
        return code, log

    def _get(self, program, what):
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, name, *arguments):
        result = getattr(self._library, name)(*arguments)
        if result:
            sys.exit(f"{name}: {self._error(result)}")

    def _error(self, result):
        return self._library.nvrtcGetErrorString(result).decode()


def inexact(ptx):
    """The instructions that are no single correctly rounded operation, where those are asked for."""
    found = set()
    for kernel in re.split(r"(?=\.entry\s)", ptx):
        for instruction in ARITHMETIC.findall(kernel):
            allowed = EXACT.fullmatch(instruction) or FAST.match(kernel) and APPROXIMATE.fullmatch(instruction)
            found.update([] if allowed else [instruction])
    return sorted(found)


def add_included(file, folder, found):
    """Adds the files that a file includes, and those that they include."""
    for name in INCLUDE.findall(file.read_text(encoding="utf-8")):
        header = folder / name
        if header.is_file() and header not in found:
            found.add(header)
            add_included(header, folder, found)


def main():
    library, source, include, out, *architectures = sys.argv[1:]
    source, include, out = pathlib.Path(source), pathlib.Path(include), pathlib.Path(out)
    nvrtc = Nvrtc(library)
    for architecture in architectures:
        kind = "PTX" if architecture.startswith("compute_") else "CUBIN"
        options = ["--std=c++17", f"--gpu-architecture={architecture}", f"--include-path={include}", *NUMERICS]
        if kind == "CUBIN":
            options.append("--ptxas-options=-v")
        code, log = nvrtc.compile(source, options, kind)
        if kind == "PTX":
            found = inexact(code.decode())
            if found:
                sys.exit(f"{source}: not correctly rounded, see docs/numerics.md: {', '.join(found)}")
        stem = out / f"{source.stem}.{architecture}"
        stem.with_name(f"{stem.name}.{kind.lower()}").write_bytes(code)
        stem.with_name(f"{stem.name}.log").write_text(log, encoding="utf-8")
    included = set()
    add_included(source, include, included)
    first = f"{source.stem}.{architectures[0]}"
    (out / f"{first}.d").write_bytes(os.fsencode(f"{out / first}.log: {' '.join(map(str, sorted(included)))}\n"))


if __name__ == "__main__":
    main()
