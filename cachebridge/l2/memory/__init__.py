"""A store in this process, with the interface of the shared ones."""
