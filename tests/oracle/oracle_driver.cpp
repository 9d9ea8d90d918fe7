// What the oracle tests need beyond `gradminer compute`:
//   oracle_driver config DIR             prints DIR/config.json as we would write it
//   oracle_driver copy FROM TO           read a model folder, write it anew
//   oracle_driver initialise DIR SEED    initial weights beside DIR/config.json
//   oracle_driver adamw IN OUT           steps of the AdamW operation; the layout is in adamw_test.py
//   oracle_driver train DIR IN OUT       local AdamW steps of DIR's model; the layout is in training_test.py
//   oracle_driver int8 IN OUT            quantised vectors and their products; the layout is at int8()
//   oracle_driver functions IN OUT       elementwise operations and cross-entropy; the layout is at functions()
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

template <class T>
void append(std::ofstream& out, const std::vector<T>& values) {
  out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
  if (!out.flush()) throw std::runtime_error("the output cannot be written");
}

void put(const fs::path& output, const std::vector<float>& values) {
  std::ofstream out(output, std::ios::binary);
  append(out, values);
}

void adamw(const fs::path& input, const fs::path& output) {
  std::ifstream in(input, std::ios::binary);
  const std::vector<uint64_t> sizes = take<uint64_t>(in, 2);
  const std::vector<float> constants = take<float>(in, 5);
  std::vector<float> w = take<float>(in, sizes[0]), m(w.size()), v(w.size());
  const kernels::TensorEnd tensor{.end = w.size(), .decays = true};
  const auto ops = kernels::make_cpu_ops(1);
  for (size_t step = 0; step < sizes[1]; ++step) {
    const std::vector<float> numbers = take<float>(in, 3), g = take<float>(in, w.size());
    ops->adamw({.tensor_count = 1,
                .tensors = &tensor,
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

// IN: m, n, k (uint64); x (m, k), w (n, k), factors (m) (fp32). OUT: digits and second digits (m, k, int8) and scales
// (fp32) of x's rows, then of the columns of x times its rows' factors; the products (m, n, fp32) of x's rows with w's,
// then those of x's two digits.
void int8(const fs::path& input, const fs::path& output) {
  std::ifstream in(input, std::ios::binary);
  const std::vector<uint64_t> sizes = take<uint64_t>(in, 3);
  const size_t m = sizes[0], n = sizes[1], k = sizes[2];
  const std::vector<float> x = take<float>(in, m * k), w = take<float>(in, n * k), factors = take<float>(in, m);
  std::vector<int8_t> q(m * k), low(m * k), columns(m * k), columns_low(m * k), w_q(n * k);
  std::vector<float> scales(m), column_scales(k), w_scales(n), product(m * n), product_of_two(m * n);
  const auto ops = kernels::make_cpu_ops(1);
  ops->quantise_rows(
      {.rows = m, .columns = k, .row = k, .x = x.data(), .q = q.data(), .low = low.data(), .scales = scales.data()});
  ops->quantise_columns({.rows = m,
                         .columns = k,
                         .row = k,
                         .x = x.data(),
                         .row_factors = factors.data(),
                         .q = columns.data(),
                         .low = columns_low.data(),
                         .scales = column_scales.data()});
  ops->quantise_rows({.rows = n, .columns = k, .row = k, .x = w.data(), .q = w_q.data(), .scales = w_scales.data()});
  kernels::Int8Matmul matmul{.m = m,
                             .n = n,
                             .k = k,
                             .a = q.data(),
                             .a_row = k,
                             .a_scales = scales.data(),
                             .b = w_q.data(),
                             .b_row = 1,
                             .b_col = k,
                             .b_scales = w_scales.data(),
                             .c = product.data(),
                             .ldc = n};
  ops->int8_matmul(matmul);
  matmul.a_low = low.data();
  matmul.c = product_of_two.data();
  ops->int8_matmul(matmul);
  std::ofstream out(output, std::ios::binary);
  append(out, q), append(out, low), append(out, scales);
  append(out, columns), append(out, columns_low), append(out, column_scales);
  append(out, product), append(out, product_of_two);
}

// IN: rows, columns (uint64); x (rows, columns, fp32). OUT: gelu(x), swiglu of gates x and ups 1, and of x as logits
// with targets 0 and g = 1 the losses and dlogits.
void functions(const fs::path& input, const fs::path& output) {
  std::ifstream in(input, std::ios::binary);
  const std::vector<uint64_t> sizes = take<uint64_t>(in, 2);
  const size_t rows = sizes[0], columns = sizes[1];
  std::vector<float> x = take<float>(in, rows * columns), gelu(x.size()), swiglu(x.size()), losses(rows), gate_up;
  for (const float gate : x) gate_up.insert(gate_up.end(), {gate, 1.0f});
  const std::vector<uint16_t> targets(rows);
  const auto ops = kernels::make_cpu_ops(1);
  ops->gelu_forward({.count = x.size(), .x = x.data(), .y = gelu.data()});
  ops->swiglu_forward({.rows = x.size(), .inner = 1, .gate_up = gate_up.data(), .y = swiglu.data()});
  ops->cross_entropy({.rows = rows,
                      .vocabulary = columns,
                      .row = columns,
                      .logits = x.data(),
                      .targets = targets.data(),
                      .losses = losses.data(),
                      .scale_gradient = 1});
  std::ofstream out(output, std::ios::binary);
  append(out, gelu), append(out, swiglu), append(out, losses), append(out, x);
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
    } else if (command == "int8" && arguments.size() == 3) {
      int8(arguments[1], arguments[2]);
    } else if (command == "functions" && arguments.size() == 3) {
      functions(arguments[1], arguments[2]);
    } else {
      throw std::runtime_error("wrong arguments; the commands are at the head of oracle_driver.cpp");
    }
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "oracle_driver: " << error.what() << '\n';
    return 1;
  }
}
