"""The number of reference frames in the headers of an H.264 stream."""

from collections.abc import Iterable, Iterator

_SPS = 7
_AVCC = b"\x01"  # the first byte of a header as in MP4 and Matroska
# The profiles whose header has chroma formats and scaling lists.
_HIGH = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}


class HeaderError(ValueError):
    """A header that ends too early, or has a number that is out of range."""


def max_reference_frames(units: Iterable[bytes]) -> int | None:
    """Return the largest number of reference frames of a stream; None where no header is found.

    Raises HeaderError for a header that is broken.
    """
    headers = (unit for unit in units if unit and unit[0] & 31 == _SPS)
    return max((_max_num_ref_frames(header) for header in headers), default=None)


def units_of_header(extradata: bytes) -> Iterator[bytes]:
    """Yield the units in a decoder's extradata: as in MP4 (avcC), or with start codes."""
    if extradata[:1] != _AVCC:
        yield from units(extradata)
        return
    at = 6
    for _ in range(extradata[5] & 31 if len(extradata) >= at else 0):
        length = int.from_bytes(extradata[at : at + 2])
        yield extradata[at + 2 : at + 2 + length]
        at += 2 + length


def length_size(extradata: bytes) -> int | None:
    """Return how many bytes the length before each unit has; None where start codes divide them."""
    return (extradata[4] & 3) + 1 if extradata[:1] == _AVCC and len(extradata) > 4 else None


def units(packet: bytes, length_size: int | None = None) -> Iterator[bytes]:
    """Yield the units in a packet, each after its length, or after a start code."""
    if length_size is None:
        yield from packet.split(b"\x00\x00\x01")[1:]
        return
    at = 0
    while at < len(packet):
        start = at + length_size
        at = start + int.from_bytes(packet[at:start])
        yield packet[start:at]


class _Bits:
    """A bit stream, read in the codes of the standard."""

    def __init__(self, data: bytes) -> None:
        # Emulation prevention: the bytes 0 0 3 stand for 0 0, so that no data looks like a start
        # code.
        data = data.replace(b"\x00\x00\x03", b"\x00\x00")
        self._bits = "".join(f"{byte:08b}" for byte in data)
        self._at = 0

    def fixed(self, count: int) -> int:
        """Read that many bits as an integer."""
        self._at += count
        if self._at > len(self._bits):
            raise HeaderError("a header that ends too early")
        return int(self._bits[self._at - count : self._at], 2)

    def unsigned(self) -> int:
        """Read an Exp-Golomb code."""
        zeros = self._bits.find("1", self._at) - self._at
        if not 0 <= zeros < 32:
            raise HeaderError("a number that is out of range")
        self._at += zeros
        return self.fixed(zeros + 1) - 1

    def signed(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)


def _max_num_ref_frames(unit: bytes) -> int:
    """Read max_num_ref_frames, and all fields before it (ITU-T H.264, 7.3.2.1.1)."""
    bits = _Bits(unit[1:])
    profile = bits.fixed(8)
    bits.fixed(16)
    bits.unsigned()
    if profile in _HIGH:
        _skip_formats(bits)
    bits.unsigned()
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.fixed(1)
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    return bits.unsigned()


def _skip_formats(bits: _Bits) -> None:
    chroma = bits.unsigned()
    if chroma == 3:
        bits.fixed(1)
    bits.unsigned()
    bits.unsigned()
    bits.fixed(1)
    if bits.fixed(1):
        for i in range(12 if chroma == 3 else 8):
            if bits.fixed(1):
                _skip_scaling_list(bits, 16 if i < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last
