// What the oracle tests need beyond `gradminer compute`:
//   oracle_driver copy FROM TO           read a model folder, write it anew
//   oracle_driver initialise DIR SEED    initial weights beside DIR/config.json
//   oracle_driver adamw IN OUT           steps of the AdamW operation; the layout is in adamw_test.py
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "kernels/files.h"
#include "kernels/ops.h"

namespace {

namespace fs = std::filesystem;

void copy(const fs::path& from, const fs::path& to) {
  const kernels::ModelConfig config = kernels::read_model_config(from);
  const std::vector<float> weights = kernels::read_weights(from, config);
  fs::create_directories(to);
  std::ofstream(to / "config.json") << kernels::to_json(config).dump(2) << '\n';
  kernels::write_safetensors(to / "model.safetensors", config, weights.data());
}

void initialise(const fs::path& folder, unsigned long long seed) {
  const kernels::ModelConfig config = kernels::read_model_config(folder);
  std::vector<float> weights(kernels::parameter_count(config));
  kernels::initialise_weights(config, seed, weights.data());
  kernels::write_safetensors(folder / "model.safetensors", config, weights.data());
}

template <class T>
std::vector<T> take(std::ifstream& in, size_t count) {
  std::vector<T> values(count);
  if (!in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T))))
    throw std::runtime_error("the input is too short");
  return values;
}

void adamw(const fs::path& input, const fs::path& output) {
  std::ifstream in(input, std::ios::binary);
  const std::vector<uint64_t> sizes = take<uint64_t>(in, 2);
  const std::vector<float> constants = take<float>(in, 5);
  std::vector<float> w = take<float>(in, sizes[0]), m(w.size()), v(w.size());
  const auto ops = kernels::make_cpu_ops(1);
  for (size_t step = 0; step < sizes[1]; ++step) {
    const std::vector<float> numbers = take<float>(in, 3), g = take<float>(in, w.size());
    ops->adamw({.count = w.size(),
                .beta1 = constants[0],
                .one_minus_beta1 = constants[1],
                .beta2 = constants[2],
                .one_minus_beta2 = constants[3],
                .epsilon = constants[4],
                .decay = numbers[0],
                .step_size = numbers[1],
                .inv_sqrt_bc2 = numbers[2],
                .g = g.data(),
                .w = w.data(),
                .m = m.data(),
                .v = v.data()});
  }
  std::ofstream out(output, std::ios::binary);
  out.write(reinterpret_cast<const char*>(w.data()), static_cast<std::streamsize>(w.size() * sizeof(float)));
  if (!out.flush()) throw std::runtime_error("the output cannot be written");
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() != 3) throw std::runtime_error("usage: oracle_driver copy|initialise|adamw ARGUMENT ARGUMENT");
    const std::string& command = arguments[0];
    if (command == "copy") {
      copy(arguments[1], arguments[2]);
    } else if (command == "initialise") {
      initialise(arguments[1], std::stoull(arguments[2]));
    } else if (command == "adamw") {
      adamw(arguments[1], arguments[2]);
    } else {
      throw std::runtime_error("unknown command " + command);
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "oracle_driver: " << error.what() << '\n';
    return 1;
  }
}
