// `gradminer devices`: what this machine can compute on, and the cards that NVIDIA's driver names.
#pragma once

namespace agent {

void devices_command(bool json);

}  // namespace agent
