"""Operations, and the only place that waits.  Internal."""
