"""The parts of a torch archive: a zip whose members are stored as they are, so that none is larger than the file.

torch writes every member uncompressed. An archive that compresses is none of torch's, and may inflate without bound;
one whose members overlap, or are named twice, reads differently in every reader.
"""

import zipfile
from io import BytesIO

from edgepass.errors import InputError


class Foreign(InputError):
    """What torch.export.save does not write; the message says what, to stand behind "because"."""


def read(content: bytes, wanted: str = "it") -> dict[str, bytes]:
    """Members by name, without the folder that all of them are in. Raises Foreign."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            _check(members, len(content), wanted)
            parts = {member.filename.partition("/")[2]: archive.read(member) for member in members}
    except (zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OverflowError) as error:
        raise Foreign(f"{wanted} is no whole zip archive ({error})") from None
    return parts


def _check(members: list[zipfile.ZipInfo], size: int, wanted: str) -> None:
    names = [member.filename for member in members]
    if len(set(names)) < len(names):
        raise Foreign(f"{wanted} holds two parts of one name")
    if len({name.partition("/")[0] for name in names}) > 1:
        raise Foreign(f"{wanted} has more than one root folder")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise Foreign(f"{wanted} has a compressed part {member.filename[:80]!r}, which torch never writes")
    if sum(member.file_size for member in members) > size:
        raise Foreign(f"{wanted} has parts that overlap")
