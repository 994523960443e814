"""The process test over a Redis Cluster whose slots move and whose masters fail."""
