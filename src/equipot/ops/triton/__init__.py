"""Operations on a GPU, in Triton: `convolution` and `product`, whose kernels are generated per plan. Those two need the package triton."""
