"""What to do for a build: pure functions of its world."""
