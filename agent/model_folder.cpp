#include "model_folder.h"

#include "exit.h"
#include "kernels/files.h"

namespace agent {

ModelFolder open_model_folder(const std::filesystem::path& folder) {
  if (!std::filesystem::is_directory(folder)) {
    throw Failure(Exit::input, "--model " + folder.string() +
                                   " is not a folder; it must be a Hugging Face model folder with config.json and "
                                   "model.safetensors");
  }
  try {
    return {folder, kernels::read_model_config(folder)};
  } catch (const std::exception& error) {
    throw Failure(Exit::input, error.what());
  }
}

std::vector<float> read_model_weights(const ModelFolder& model) {
  try {
    return kernels::read_weights(model.folder, model.config);
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw Failure(Exit::input, error.what());
  }
}

void check_gradients_file(const std::filesystem::path& file) {
  try {
    kernels::replaceable_file(file);
  } catch (const std::exception& error) {
    throw Failure(Exit::disk, std::string("--gradients: ") + error.what());
  }
}

void write_gradients(const std::filesystem::path& file, const kernels::ModelConfig& config,
                     std::span<const float> gradients) {
  try {
    kernels::write_safetensors(file, config, gradients.data());
  } catch (const std::exception& error) {
    throw Failure(Exit::disk, error.what());
  }
}

}  // namespace agent
