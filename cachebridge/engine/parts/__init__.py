"""Parts of ``Operations``: what exists is changed, and what takes several steps."""
