"""Federated averaging in Flower, as its guides write it, on NumPy arrays."""
