"""Loading one value: from the caller to the lease and back."""
