// Any text as a config.json: std::exception is the only way out, and what is accepted means the same when it is written
// again.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "files/json_file.h"
#include "kernels/files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto model =
        kernels::parse_model_config(kernels::parse_json(std::string_view(reinterpret_cast<const char*>(data), size)));
    if (kernels::parameter_count(model) == 0) std::abort();
    const nlohmann::json written = kernels::to_json(model);
    if (kernels::to_json(kernels::parse_model_config(kernels::parse_json(written.dump()))) != written) std::abort();
  } catch (const std::runtime_error&) {     // no JSON
  } catch (const std::invalid_argument&) {  // no model
  }
  return 0;
}
