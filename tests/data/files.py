"""IDX files as bytes."""


def idx(shape: tuple[int, ...], content: bytes) -> bytes:
    """A header that says ``shape``, and after it ``content``, whether or not they agree."""
    sizes = b"".join(size.to_bytes(4, "big") for size in shape)
    return bytes([0, 0, 8, len(shape)]) + sizes + content
