"""A job's files on their way in: multipart/form-data (RFC 7578), streamed to disk as it comes.

Three kinds of parts: `request` (JSON, at most one), `script` (exactly one file) and `input` (any
number of files; a file name may be a relative path). The limits are those of a payload, and names
are checked before a file is made, so nothing ever lands outside the given folder.

Writing is plain blocking I/O; the caller runs `feed` in a worker thread.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from p2pfed.core.limits import ARCHIVE_MEMBERS_MAX, PAYLOAD_BYTES_MAX
from p2pfed.errors import InputError
from p2pfed.shell.api.requests import REQUEST_BYTES_MAX
from p2pfed.shell.jobscript import is_file_name
from p2pfed.shell.members import check_member_path
from p2pfed.store.files import disk_errors


class Upload:
    """The parts of one request body, as far as they have come.

    Attributes:
        request: the bytes of the `request` part.
        script: the script's file name, "" until it has come.
        paths: relative paths of the inputs.
    """

    def __init__(self, content_type: str, folder: Path) -> None:
        """Files will be made in `folder`, which is empty.

        Raises:
            InputError: `upload-form`: this is not multipart/form-data.
        """
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise InputError(
                "upload-form",
                f"a job comes as multipart/form-data, not as {content_type or 'nothing'!r}",
                remedy="send the parts request, script and input (curl: -F script=@job.sh)",
            )
        self.request = b""
        self.script = ""
        self.paths: list[str] = []
        self._folder = folder
        self._bytes = 0
        self._headers: dict[bytes, bytes] = {}
        self._field = self._value = b""
        self._part = ""
        self._file: BinaryIO | None = None
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._open,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except FormParserError as error:
            raise InputError("upload-form", f"the boundary is not valid: {error}") from None

    def feed(self, data: bytes) -> None:
        """Takes the next bytes of the body.

        Raises:
            InputError: `upload-form`, `upload-name`, `upload-too-large`, `archive-path`.
            StorageError: `disk-full`, `disk-error`.
        """
        with disk_errors(self._folder):
            self._guard(lambda: self._parser.write(data))

    def finish(self) -> None:
        """The body is complete.

        Raises:
            InputError: `upload-form`: it ended too early, or there is no script.
        """
        self._guard(self._parser.finalize)
        if not self._ended:
            raise InputError("upload-form", "the body ended in the middle of a part")
        if not self.script:
            raise InputError(
                "upload-form", "there is no script", remedy="send the batch script as part script"
            )

    def close(self) -> None:
        """Closes the file being written, whatever happened."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _guard(self, step: Callable[[], object]) -> None:
        try:
            step()
        except FormParserError as error:
            raise InputError("upload-form", f"the body is not valid multipart: {error}") from None

    def _begin(self) -> None:
        self._headers = {}
        self._field = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        name = options.get(b"filename", b"").decode("utf-8", "surrogateescape")
        match self._part:
            case "request" if not self.request:
                return
            case "script" if not self.script:
                if not is_file_name(name):
                    raise InputError("upload-name", f"{name!r} can't be the name of a script")
                self.script = name
                mode = 0o700
            case "input":
                self.paths.append(check_member_path(name))
                mode = 0o600
            case _:
                raise InputError(
                    "upload-form",
                    f"part {self._part!r} is unknown or comes twice",
                    remedy="send one request, one script and any number of input parts",
                )
        if len(self.paths) > ARCHIVE_MEMBERS_MAX:
            raise InputError(
                "upload-too-large", f"more than {ARCHIVE_MEMBERS_MAX} input files", remedy=_PACK
            )
        self._file = self._create(name, mode)

    def _create(self, name: str, mode: int) -> BinaryIO:
        path = self._folder / name
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            raise InputError(
                "upload-name",
                f"two files are named {name!r}, or one is named like the other's folder",
                remedy="the script and every input need paths of their own",
            ) from None
        return os.fdopen(descriptor, "wb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._bytes += end - start
        if self._bytes > PAYLOAD_BYTES_MAX:
            raise InputError(
                "upload-too-large",
                f"the files have more than {PAYLOAD_BYTES_MAX} bytes together",
                remedy=_PACK,
            )
        if self._file is not None:
            self._file.write(data[start:end])
            return
        self.request += data[start:end]
        if len(self.request) > REQUEST_BYTES_MAX:
            raise InputError(
                "upload-too-large", f"the request has more than {REQUEST_BYTES_MAX} bytes"
            )

    def _end(self) -> None:
        self.close()

    def _finish(self) -> None:
        self._ended = True


_PACK: Final = "pack the inputs, or have the job fetch large data from where it is kept"
