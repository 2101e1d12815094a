"""What only the live model can tell: evidence that a finished record of the build does not hold.

One module for each kind of such evidence; its docstring says which facts need the live model.
"""
