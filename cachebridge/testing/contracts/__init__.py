"""What every store, and every bus, must hold."""
