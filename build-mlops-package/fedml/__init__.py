"""Cross-silo federated learning on NumPy: FedAvg (McMahan et al., 2017) and FedProx (Li et al., 2020)."""

import os

# One thread for matrix products: these models are small, several instances share a machine, and the order of sums must
# not depend on the number of processors. Takes effect because it precedes the import of NumPy.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
