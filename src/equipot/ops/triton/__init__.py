"""Operations on a GPU, in Triton: `convolution` and `product`, whose kernels are generated per plan; `backend` checks them. These need the package triton."""
