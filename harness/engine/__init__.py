"""Computing the cells of a run in other processes, on this machine or on a cluster of them."""
