// The kernels of one instruction set; compiled once for each.
#include "convolve.hpp"
#include "node_kernels.hpp"

namespace EQUIPOT_NAMESPACE {

extern const eq::KernelSet kernel_set;
const eq::KernelSet kernel_set = {
    EQUIPOT_NAME,
    {convolve<float>, convolve_back<float>, multiply<float>, activate<float>, product<float>, product_back<float>},
    {convolve<double>, convolve_back<double>, multiply<double>, activate<double>, product<double>, product_back<double>},
};

}  // namespace EQUIPOT_NAMESPACE
