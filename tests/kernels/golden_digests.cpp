// Prints golden.txt with every digest computed anew by the reference; the command stands at that file's head.
#include <exception>
#include <fstream>
#include <iostream>

#include "golden.h"

int main(int argc, char** argv) {
  try {
    std::ifstream in(argc == 2 ? argv[1] : "");
    if (!in) throw std::runtime_error("usage: golden_digests golden.txt");
    const auto ops = kernels::make_reference_ops();
    kernels::test::GoldenUnit unit;
    for (std::string row; std::getline(in, row);) {
      if (kernels::test::parse_golden(row, unit)) {
        row = row.substr(0, row.rfind(' ') + 1) + kernels::test::golden_digest(unit, *ops);
      }
      std::cout << row << '\n';
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "golden_digests: " << error.what() << '\n';
    return 1;
  }
}
