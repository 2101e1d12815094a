"""What only the live model can tell: evidence that a finished record of the build does not hold."""
