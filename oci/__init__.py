"""Image archives and bundles: formats only, with no knowledge of running; usable alone.

from oci.archive import Archive, choose, read_images
from oci.convert import Build, build, image_layers

archive = Archive("busybox.tar")
image = choose(read_images(archive), "", archive.source)
"""
