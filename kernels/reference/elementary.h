// exp, log and tanh by docs/numerics.md section 2, one value at a time.
#pragma once

namespace kernels::reference {

float exp(float x);
float log(float x);
float tanh(float x);

}  // namespace kernels::reference
