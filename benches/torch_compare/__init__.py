"""The parts of compare_torch.py."""
