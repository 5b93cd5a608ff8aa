// The choice of instruction set; private to the library.
#pragma once

#include "kernels.hpp"

namespace equipot {

const Kernels& active_kernels();

}  // namespace equipot
