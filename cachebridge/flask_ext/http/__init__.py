"""What HTTP says about storing a response."""
