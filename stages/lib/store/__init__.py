"""What stages leave for one another: the tensor cache and its manifest; histories, and what the clock said."""

from pathlib import Path

FOLDER = Path("data/tensors")  # of the tensor cache
PICTURES = "pictures"  # its folder of figures that show the data
