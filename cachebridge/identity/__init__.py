"""Internal: from values, calls and functions to the text that names them in keys."""
