// `gradminer devices`: what this machine can compute on.
#pragma once

namespace agent {

void devices_command(bool json);

}  // namespace agent
