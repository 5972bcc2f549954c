"""What runs on a GPU: formulas, gradients, laws and whole models, against the CPU."""
