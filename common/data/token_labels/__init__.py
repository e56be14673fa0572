"""Token labels: files and training targets."""
