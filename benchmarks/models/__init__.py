"""Small healthy models in plain torch, initialised the way their papers and reference codes do it."""
