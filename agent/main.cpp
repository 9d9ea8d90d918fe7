#include <cstdio>
#include <cstdlib>

#include "command_line.h"
#include "kernels/cuda_cards.h"

int main(int argc, char** argv) {
  const int exit_code = agent::run_command_line(argc, argv);
  if (!kernels::threads_left_behind()) return exit_code;
  std::fflush(stdout);
  std::_Exit(exit_code);
}
