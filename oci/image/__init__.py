"""Read image archives: one module for each layout (docker, layout, legacy, rootfs), the model, and the choice."""

from oci.image.choice import choose
from oci.image.detect import read_images
from oci.image.model import Image, Layer

__all__ = ["Image", "Layer", "choose", "read_images"]
