// What the oracle tests need beyond `gradminer compute`:
//   oracle_driver config DIR             prints DIR/config.json as we would write it
//   oracle_driver copy FROM TO           read a model folder, write it anew
//   oracle_driver initialise DIR SEED    initial weights beside DIR/config.json
//   oracle_driver adamw IN OUT           steps of the AdamW operation; the layout is in adamw_test.py
//   oracle_driver train DIR IN OUT       local AdamW steps of DIR's model; the layout is in training_test.py
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "kernels/files.h"
#include "kernels/ops.h"
#include "kernels/training.h"

namespace {

namespace fs = std::filesystem;

void print_config(const fs::path& folder) {
  std::cout << kernels::to_json(kernels::read_model_config(folder)).dump() << '\n';
}

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

void put(const fs::path& output, const std::vector<float>& values) {
  std::ofstream out(output, std::ios::binary);
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(float)));
  if (!out.flush()) throw std::runtime_error("the output cannot be written");
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
  put(output, w);
}

// IN: steps, batch, context (uint64); beta1, 1 - beta1, beta2, 1 - beta2, epsilon, max_grad_norm and three numbers a
// step (fp32); the tokens of all steps' rows (uint16). OUT: start - end, in canonical order.
void train(const fs::path& folder, const fs::path& input, const fs::path& output) {
  const kernels::ModelConfig config = kernels::read_model_config(folder);
  const std::vector<float> weights = kernels::read_weights(folder, config);
  std::ifstream in(input, std::ios::binary);
  const std::vector<uint64_t> sizes = take<uint64_t>(in, 3);
  const size_t steps = sizes[0], batch = sizes[1], context = sizes[2], row = batch * (context + 1);
  const std::vector<float> c = take<float>(in, 6), numbers = take<float>(in, 3 * steps);
  const std::vector<uint16_t> tokens = take<uint16_t>(in, steps * row);
  kernels::LocalAdamW optimiser{c[0], c[1], c[2], c[3], c[4], c[5], {}};
  for (size_t s = 0; s < steps; ++s)
    optimiser.steps.push_back({numbers[3 * s], numbers[3 * s + 1], numbers[3 * s + 2]});
  const auto ops = kernels::make_cpu_ops(1);
  kernels::Trainer trainer(config, batch, context, *ops, kernels::Trainer::Purpose::local_steps);
  std::vector<float> difference(weights.size());
  trainer.local_steps(
      weights, optimiser,
      [&](size_t step) {
        return kernels::TokenBatch{batch, context, std::span(tokens).subspan(step * row, row)};
      },
      difference);
  put(output, difference);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::vector<std::string> arguments(argv + 1, argv + argc);
    const std::string command = arguments.empty() ? "" : arguments[0];
    if (command == "config" && arguments.size() == 2) {
      print_config(arguments[1]);
    } else if (command == "copy" && arguments.size() == 3) {
      copy(arguments[1], arguments[2]);
    } else if (command == "initialise" && arguments.size() == 3) {
      initialise(arguments[1], std::stoull(arguments[2]));
    } else if (command == "adamw" && arguments.size() == 3) {
      adamw(arguments[1], arguments[2]);
    } else if (command == "train" && arguments.size() == 4) {
      train(arguments[1], arguments[2], arguments[3]);
    } else {
      throw std::runtime_error("wrong arguments; the commands are at the head of oracle_driver.cpp");
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "oracle_driver: " << error.what() << '\n';
    return 1;
  }
}
