"""Operations on a GPU, in Triton; kernels are generated per plan. Importing this needs the package triton."""

from equipot.ops.triton.convolution import edge_convolution
from equipot.ops.triton.product import symmetric_product

__all__ = ["edge_convolution", "symmetric_product"]
