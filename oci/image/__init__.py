"""Image archives: the layouts (docker, layout, legacy, rootfs), the model that they are read into, and the choice."""

from oci.image.choice import choose
from oci.image.detect import read_images
from oci.image.model import Image, Layer

__all__ = ["Image", "Layer", "choose", "read_images"]
