"""CPU kernels for networks, where PyTorch's own or compiled kernels are far from the hardware's limit."""
