// The shared memory whose size the launch gives (Launch::shared_bytes).
#pragma once

extern __shared__ __align__(16) unsigned char dynamic_shared[];
