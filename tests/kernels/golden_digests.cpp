// Prints golden.json with every digest computed anew by the reference:
//   build/release/bin/golden_digests tests/kernels/golden.json > golden.new && mv golden.new tests/kernels/golden.json
// Only a new revision of the profile, or a new unit, may change that file.
#include <fstream>
#include <iostream>

#include "golden.h"

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::runtime_error("usage: golden_digests golden.json");
    std::ifstream in(argv[1]);
    nlohmann::ordered_json golden = nlohmann::ordered_json::parse(in);
    const auto ops = kernels::make_reference_ops();
    for (auto& unit : golden.at("units")) unit["sha256"] = kernels::test::golden_digest(unit, *ops);
    std::cout << golden.dump(2) << '\n';
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "golden_digests: " << error.what() << '\n';
    return 1;
  }
}
