"""Look at the first records of a file before anything else happens, so that a wrong file is refused as a whole.

Knows nothing of Kafka.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec

from streams.datasets.field_options import Header
from streams.datasets.input_file import FileRecord, InputFile
from streams.datasets.messages import Account, InputError
from streams.datasets.record_shapes import Checked, ContractCheck, ContractShape, Shape, required_fields
from streams.receive.message import BadMessage

FIRST_RECORDS = 100
"""Chosen by us: enough that a wrong column is told from some bad lines, and read in milliseconds."""
MOST_BAD = 0.5
"""Chosen by us: if more of the first records are bad, the file is of another shape than we think."""
SHOWN_NAMES = 20


def messages_of(
    file: InputFile, shape: Shape, record: FileRecord, check: ContractCheck, account: Account
) -> list[Checked]:
    """Give the messages of a record, and account for it if there are none.

    There are none if it is for no topic of the shape, cannot be read, or a worker would reject one of them.
    """
    account.rows += 1
    place = f"{file.path} line {record.line}"
    try:
        if isinstance(record.value, BadMessage):
            raise record.value
        made = shape.read(record.value, file.place(record.line), check)
    except BadMessage as error:
        account.leave_out(error.cause, f"{place}: {error}")
        return []
    if not made:
        account.leave_to_others(f"{place}: {shape.why_none(record.value)}".removesuffix(": "))
    return made


class FirstRecords:
    """The first records of a file.

    Parameters
    ----------
    file : InputFile

    Attributes
    ----------
    file : InputFile
    header : Header
        The columns, or the names in the first objects.
    """

    def __init__(self, file: InputFile) -> None:
        self.file = file
        records = list(islice(file.records(), FIRST_RECORDS + 1))
        self._records, self._is_whole = records[:FIRST_RECORDS], len(records) <= FIRST_RECORDS
        columns = file.format.columns
        self.header = Header(columns or _names(self._records), is_complete=bool(columns))

    def fitting(self, shapes: Sequence[Shape], check: ContractCheck) -> Shape:
        """Return the first of the shapes that most of the records have.

        Raises
        ------
        InputError
            There is none.
        """
        trials = [self._tried(shape, check) for shape in shapes]
        for trial in (*(each for each in trials if each.fits), *(each for each in trials if each.may_fit)):
            return trial.shape
        raise InputError(self._refusal(trials[0]))

    def _tried(self, shape: Shape, check: ContractCheck) -> _Trial:
        account = Account()
        for record in self._records:
            messages_of(self.file, shape, record, check, account)
        return _Trial(shape, account, self._is_whole)

    def _refusal(self, trial: _Trial) -> str:
        """Say what is wrong with the first record that is bad as most are, how the file was read, and what to do."""
        names, account = self.header.names, trial.account
        shown = ", ".join(names[:SHOWN_NAMES]) + (", …" if len(names) > SHOWN_NAMES else "")
        read_as = f"read as {self.file.format.kind}" + (f" with the fields {shown}" if names else "")
        if not account.first:
            topics = " or ".join(trial.shape.topics)
            where = "--where" if trial.shape.name == "--fields" else trial.shape.name
            return f"{account.first_other}; got no record for {topics} ({read_as}); correct {where}"
        [(most_frequent, _)] = account.left_out.most_common(1)
        return (
            f"{account.first[most_frequent]}; {trial.bad} of the first {account.rows} records are bad ({read_as}), "
            f"so nothing of the file was used; {self._advice(trial)}"
        )

    def _advice(self, trial: _Trial) -> str:
        if any(reason.startswith(("timestamp before", "timestamp more")) for reason in trial.account.left_out):
            return "say the unit of times: --time-unit s, ms, us, ns or iso"
        if any("timezone component" in reason for reason in trial.account.left_out):
            return "set AFTERCLICK_TIME_ZONE, to Europe/Berlin for example"
        if any(re.search(r"Expected (float|int)\b.*, got str", reason) for reason in trial.account.left_out):
            return "correct its numbers; if they have a decimal comma (59,90), say --decimal-comma"
        if not isinstance(trial.shape, ContractShape):
            return f"correct {trial.shape.name}"
        [topic] = trial.shape.topics
        missing = [f"{name}=…" for name in required_fields(topic) if name not in self.header.names]
        if self.header.names and missing:
            return f"say where the fields are: --fields {','.join(missing)}"
        return "correct the file"


@dataclass
class _Trial:
    """What the first records are by one shape."""

    shape: Shape
    account: Account
    is_whole: bool

    @property
    def bad(self) -> int:
        return self.account.left_out.total()

    @property
    def fits(self) -> bool:
        """Most of the records that are meant are good. A file without any record fits."""
        meant = self.account.rows - self.account.others
        return self.bad <= MOST_BAD * meant and (meant > 0 or not self.account.rows)

    @property
    def may_fit(self) -> bool:
        """None of the first records is meant, but more follow."""
        return self.account.rows == self.account.others and not self.is_whole


def _names(records: Sequence[FileRecord]) -> tuple[str, ...]:
    """Give the names of all fields of the JSON objects."""
    names: dict[str, None] = {}
    for record in records:
        if isinstance(record.value, bytes):
            try:
                names |= dict.fromkeys(msgspec.json.decode(record.value, type=dict[str, msgspec.Raw]))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
    return tuple(names)
