#pragma once

#include <nanobind/nanobind.h>

namespace quantmill {

// Models and matrices on quantized blocks.
void bind_infer(nanobind::module_ &m);

}  // namespace quantmill
