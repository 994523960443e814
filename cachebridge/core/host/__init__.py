"""What the processes of one host share."""
