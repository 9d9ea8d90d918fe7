// Writes the golden vectors: protocol_make_golden FOLDER. Run it when docs/protocol.md changes, and read the
// difference.
#include <fstream>
#include <iostream>

#include "golden.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: protocol_make_golden FOLDER\n";
    return 2;
  }
  for (const auto& [name, content] : protocol::samples::golden_files()) {
    std::ofstream file(std::string(argv[1]) + "/" + name, std::ios::binary);
    file << content;
    if (!file.flush()) {
      std::cerr << "cannot write " << argv[1] << "/" << name << "\n";
      return 1;
    }
  }
}
