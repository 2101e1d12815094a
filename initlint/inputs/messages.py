"""What torch and Python say when an operator refuses its operands: all the texts that a search rests on.

Each pattern names the version of torch in which its texts were seen; the tests raise every one of them.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Message(NamedTuple):
    """A pattern in the text of an error, and the version of torch in which such texts were seen."""

    pattern: str
    torch: str

    def match(self, error: Exception) -> re.Match[str] | None:
        """Where the pattern stands in the error's text; None if it does not."""
        return re.search(self.pattern, str(error))


#: Numbers of the wrong kind: "mat1 and mat2 must have the same dtype, but got Long and Float".
KIND = Message(
    r"dtype|scalar ?type|[Ll]ong|Int|[Ff]loat|[Dd]ouble|Half|[Bb]ool|integral|bitwise|indices", "2.13"
)
#: Sizes that do not fit: "The size of tensor a (3) must match the size of tensor b (4)".
SIZE = Message(r"size|shape", "2.13")
#: A dimension that is not there: "Dimension out of range (expected to be in range of [-2, 1], but got 2)".
DIMENSION = Message(r"Dimension out of range .* but got (-?\d+)", "2.13")
#: Another number of dimensions: "expected 4D input (got 3D input)".
RANK = Message(r"[Ee]xpected (\d)(?:D|-D| dim)", "2.13")
#: A tensor in an `if`: "Boolean value of Tensor with more than one value is ambiguous".
FLAG = Message(r"Boolean value of Tensor", "2.13")
#: A tensor for a plain number: "only integer tensors of a single element can be converted to an index".
NUMBER = Message(r"as an integer|single element|Python scalar|must be real number|'Tensor'", "2.13")
#: None where something was expected: "'NoneType' object is not iterable".
NONE = Message(r"None", "2.13")
