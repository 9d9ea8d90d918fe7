"""Makes one table of what compile.py wrote, for the program (C++ and assembler) and for people.

usage: embed.py FOLDER --sources STEM... --architectures ARCHITECTURE...

Writes FOLDER/code_table.cpp (kernels/cuda_driver/code.h), FOLDER/code.S with the bytes, and FOLDER/kernels.txt: registers,
shared memory and spills of every kernel for every architecture. A kernel that spills registers to memory is an error. A source
that has no kernel for an architecture is left out there.
"""

import argparse
import os
import pathlib
import re
import sys

ENTRY = re.compile(r"Compiling entry function '(?P<kernel>\w+)'.*?(?P<stack>\d+) bytes stack frame, "
                   r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
                   r"Used (?P<registers>\d+) registers(?P<rest>[^\n]*)", re.DOTALL)
COLUMNS = ("source", "kernel", "architecture", "registers", "shared", "stack", "spill stores", "spill loads")


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--sources", nargs="+", required=True)
    parser.add_argument("--architectures", nargs="+", required=True)
    given = parser.parse_args()
    code, code_table = given.folder / "code.S", given.folder / "code_table.cpp"
    for file in (code, code_table):  # what is missing is made again, whatever goes wrong below
        file.unlink(missing_ok=True)

    rows = [row for source in given.sources for architecture in given.architectures
            if is_cubin(architecture) for row in usage(given.folder, source, architecture)]
    (given.folder / "kernels.txt").write_text(text([COLUMNS, *rows]))
    spilling = [row for row in rows if row[-2:] != ("0", "0")]
    if spilling:
        sys.exit("These kernels spill registers to memory; give them fewer values to hold at once, or more registers:\n" +
                 text([COLUMNS, *spilling]))
    with_kernels = {(row[0], row[2]) for row in rows}
    sources = {architecture: [source for source in given.sources
                              if not is_cubin(architecture) or (source, architecture) in with_kernels]
               for architecture in given.architectures}
    code.write_bytes(os.fsencode(assembler(given.folder, sources)))
    code_table.write_text(table(sources))


def is_cubin(architecture):
    return architecture.startswith("sm_")


def file_name(source, architecture):
    return f"{source}.{architecture}.{'cubin' if is_cubin(architecture) else 'ptx'}"


def assembler(folder, sources):
    """sources: those of each architecture."""
    lines = ["/* The code of every architecture as symbols cuda_SOURCE_ARCHITECTURE, and _end. */", ".section .rodata"]
    for architecture, its_sources in sources.items():
        for source in its_sources:
            symbol = f"cuda_{source}_{architecture}"
            lines += [".balign 16", f".global {symbol}", f".global {symbol}_end", f"{symbol}:",
                      f'.incbin "{folder / file_name(source, architecture)}"', f"{symbol}_end:"]
    return "\n".join([*lines, '.section .note.GNU-stack, "", %progbits', ""])


def table(sources):
    lines = ['#include "cuda_driver/code.h"', ""]
    for architecture, its_sources in sources.items():
        for source in its_sources:
            symbol = f"cuda_{source}_{architecture}"
            lines.append(f'extern "C" const std::byte {symbol}[], {symbol}_end[];')
    lines += ["", "namespace kernels::cuda {", ""]
    for architecture, its_sources in sources.items():
        images = ", ".join(f"{{cuda_{source}_{architecture}, cuda_{source}_{architecture}_end}}" for source in its_sources)
        lines.append(f"static const std::span<const std::byte> {architecture}[] = {{{images}}};")
    lines += ["", "std::span<const Code> embedded_code() {", "  static const Code codes[] = {"]
    lines += [entry(architecture) for architecture in sources]
    return "\n".join([*lines, "  };", "  return codes;", "}", "", "}  // namespace kernels::cuda", ""])


def entry(architecture):
    major, minor, letter = re.fullmatch(r"(?:sm|compute)_(\d+)(\d)(a?)", architecture).groups()
    kind = "Kind::ptx" if not is_cubin(architecture) else "Kind::exact_cubin" if letter else "Kind::cubin"
    return f'      {{"{architecture}", {{{major}, {minor}}}, {kind}, {architecture}}},'


def usage(folder, source, architecture):
    """A row for each kernel of one file, as the assembler's log has it."""
    log = (folder / f"{source}.{architecture}.log").read_text(encoding="utf-8")
    found = list(ENTRY.finditer(log))
    if "ptxas info" not in log or len(found) != log.count("Compiling entry function"):
        sys.exit(f"embed.py: cannot read what the assembler said of {source} for {architecture}:\n{log}")
    for match in sorted(found, key=lambda match: match["kernel"]):
        shared = re.search(r"(\d+) bytes smem", match["rest"])
        yield (source, match["kernel"], architecture, match["registers"], shared[1] if shared else "0", match["stack"],
               match["stores"], match["loads"])


def text(rows):
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    return "".join("  ".join(cell.ljust(width) if column < 3 else cell.rjust(width)
                             for column, (cell, width) in enumerate(zip(row, widths))).rstrip() + "\n" for row in rows)


if __name__ == "__main__":
    main()
