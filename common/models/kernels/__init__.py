"""Kernels of a compiled network on a CPU, where PyTorch's own or those its compiler generates are far from the machine's limit."""
