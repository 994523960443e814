"""Hit ratio against size: our policies beside others, on traces and workloads."""
