#!/usr/bin/env python3
"""What the hottest loop of each kernel issues, counted in the machine code of cubins.

    count_issues.py matmul.sm_86.cubin flash_attention.sm_90a.cubin --kernels '_128_|forward'

Prints a Markdown table with a row for each kernel that multiplies in a loop. Of its innermost loops the row has the one
with most multiplications: HMMA (halves) and IMMA (int8, both a product of small matrices by the tensor cores), or, where
a kernel has none, FFMA (fp32, a fused multiply-add in each lane).

  instructions    all of the loop
  LDS, LDG        reads of shared memory (LDS, LDSM) and of global memory (LDG, LDGSTS)
  other           what is left: addresses, conversions, stores, barriers, branches
  share           multiplications among the instructions
  bank conflicts  FFMAs whose operands come from one of the two register banks, even and odd, all three; the third is
                  read a cycle later. An operand that the instruction before held with .reuse, in the same place, is not
                  read. "-" before compute capability 7.0, where the banks are four.

A scheduler issues one instruction in a cycle. Where it may issue an FFMA in each (8.6 and later), FFMA /
(instructions + bank conflicts) is the largest part of the fp32 peak that the loop can reach. With half as many lanes
(7.0, 7.5, 8.0) every second cycle is free for the others; and a tensor core works for many cycles on each HMMA or IMMA,
so that there the share only compares variants of a kernel.

These are counts, not times. A branch that is never taken counts as if it were, and a wait for memory, a barrier or
another result not at all: what is counted bounds the speed, and only a card tells it.
"""
import argparse
import collections
import re
import subprocess
import sys

BY_TENSOR_CORES = ("HMMA", "IMMA")
MULTIPLICATIONS = ("FFMA", *BY_TENSOR_CORES)
SHARED, GLOBAL = ("LDS", "LDSM"), ("LDG", "LDGSTS")
FIRST_WITH_TWO_BANKS = 70
SECTION = re.compile(r"\s*\.section\s+\.text\.([^\s,]+)")
ARCHITECTURE = re.compile(r"\.target\s+sm_(\d+)|EF_CUDA_SM(\d+)")
LABEL = re.compile(r"(\.L\w+):")
INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+\{?\s*(?:@!?U?P\w+\s+)?([A-Z]\w*)[\w.]*([^;}]*)")
BRANCH_TARGET = re.compile(r"`\((\.L\w+)\)")
REGISTER = re.compile(r"[-|~]*R(\d+)\b(\.reuse)?")

Instruction = collections.namedtuple("Instruction", "name operands")
Kernel = collections.namedtuple("Kernel", "architecture instructions labels")


class Unusable(Exception):
    pass


def disassemble(nvdisasm, cubin):
    try:
        done = subprocess.run([nvdisasm, "-c", cubin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    except OSError as error:
        raise Unusable(f"{nvdisasm}: {error.strerror}; it comes with the CUDA toolkit, --nvdisasm tells where it is")
    if done.returncode:
        raise Unusable(f"{cubin} is no cubin: {done.stderr.strip()}")
    return done.stdout


def parse(disassembly):
    """The kernels by name. A label has the number of the instruction that follows it."""
    kernels, kernel, architecture = {}, None, 0
    for line in disassembly.splitlines():
        found = ARCHITECTURE.search(line)
        if found:
            architecture = int(found[1] or found[2])
        found = SECTION.match(line)
        if found:
            kernel = kernels[found[1]] = Kernel(architecture, [], {})
        if kernel is None:
            continue
        found = LABEL.match(line)
        if found:
            kernel.labels[found[1]] = len(kernel.instructions)
        found = INSTRUCTION.search(line)
        if found:
            kernel.instructions.append(Instruction(found[1], found[2]))
    return kernels


def count(loop, names):
    return sum(instruction.name in names for instruction in loop)


def loops(kernel):
    """(first, end) of what a branch back repeats."""
    for number, (name, operands) in enumerate(kernel.instructions):
        target = BRANCH_TARGET.search(operands)
        first = kernel.labels.get(target[1], number + 1) if name == "BRA" and target else number + 1
        if first <= number:
            yield first, number + 1


def hottest_loop(kernel):
    """The innermost loop with most multiplications, of equal ones the shortest; or None where there is none."""
    found = {(first, end): [count(kernel.instructions[first:end], names) for names in (BY_TENSOR_CORES, MULTIPLICATIONS)]
             for first, end in loops(kernel)}
    hot = [span for span, (_, all_kinds) in found.items() if all_kinds]
    innermost = [(first, end) for first, end in hot
                 if not any(first <= f and e <= end for f, e in hot if (f, e) != (first, end))]
    if not innermost:
        return None
    first, end = max(innermost, key=lambda span: (*found[span], span[0] - span[1]))
    return kernel.instructions[first:end]


def bank_conflicts(loop):
    """FFMAs that read three registers of one bank."""
    conflicts, held = 0, {}
    for name, operands in loop:
        places = enumerate(map(REGISTER.match, re.split(r",\s*", operands)[1:]))
        sources = {place: found for place, found in places if found}
        read = {int(found[1]) for place, found in sources.items() if held.get(place) != found[1]}
        conflicts += name == "FFMA" and len(read) == 3 and len({register % 2 for register in read}) == 1
        held = {place: found[1] for place, found in sources.items() if found[2]}
    return conflicts


def row(name, kernel, loop):
    counts = collections.Counter(instruction.name for instruction in loop)
    columns = [counts[multiplication] for multiplication in MULTIPLICATIONS]
    columns += [sum(counts[load] for load in loads) for loads in (SHARED, GLOBAL)]
    columns += [len(loop) - sum(columns), f"{count(loop, MULTIPLICATIONS) / len(loop):.3f}"]
    columns += [bank_conflicts(loop) if kernel.architecture >= FIRST_WITH_TWO_BANKS else "-"]
    return f"| {name} | sm_{kernel.architecture} | {len(loop)} | {' | '.join(map(str, columns))} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cubins", nargs="+", metavar="CUBIN")
    parser.add_argument("--kernels", metavar="REGEX", default="", help="found in their names; default: all")
    parser.add_argument("--nvdisasm", metavar="PATH", default="nvdisasm", help="of the toolkit; default: from PATH")
    arguments = parser.parse_args()
    rows = []
    try:
        for cubin in arguments.cubins:
            for name, kernel in parse(disassemble(arguments.nvdisasm, cubin)).items():
                loop = hottest_loop(kernel) if re.search(arguments.kernels, name) else None
                if loop:
                    rows.append(row(name, kernel, loop))
    except (re.error, Unusable) as error:
        parser.error(str(error))
    print("| kernel | code | instructions | FFMA | HMMA | IMMA | LDS | LDG | other | share | bank conflicts |\n"
          "|---|---|---|---|---|---|---|---|---|---|---|", *rows, sep="\n")


if __name__ == "__main__":
    main()
