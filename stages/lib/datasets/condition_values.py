"""Reads the fields by which groups are divided, such as the weather, from the samples of the two slices."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from stages.lib.core.errors import UserError, shortened
from stages.lib.datasets import database, slice_samples
from stages.lib.datasets.slice_samples import SliceSample
from stages.lib.datasets.validation import DataChecks
from stages.lib.params import Dataset as DatasetParams

RETURNS = "returns"  # the number of LiDAR returns in the cached raster, which no field holds
Value = str | float | None  # None: the group has no value

_MOST_LISTED = 20  # fields that a warning names
_EVERY_SAMPLE = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at"}


class ConditionValues:
    """Values of the condition fields by group; counts what deserves a warning."""

    def __init__(self, dataset: Any, settings: DatasetParams) -> None:
        """Finds the fields.

        Args:
            dataset: an `fo.Dataset`.

        Raises:
            UserError: when a field's type has no values that groups could share.
        """
        wanted = settings.condition_fields
        self._path = settings.path
        self._usable = _usable_fields(dataset)
        schema = dataset.get_field_schema()
        names = [field.name for field in wanted if field.name != RETURNS]
        for name in set(names) & set(schema):
            if name not in self._usable:
                raise self._unusable(name, _type_name(schema[name]))
        self.stored_as = {name: self._usable[name] for name in names if name in self._usable}
        self._fields = {field.name: field for field in wanted}
        self._absent = [name for name in names if name not in schema]
        self._given: dict[str, Counter[str]] = {
            name: Counter() for name in self.stored_as
        }  # by field and slice
        self._texts: dict[str, str | None] = {}  # as tables show them
        self._conflicts: dict[str, list[str]] = defaultdict(list)  # groups by field

    def slices(self) -> dict[str, list[str]]:
        """For each field with a value in any group, the slices whose samples hold it."""
        found = {name: sorted(+counts) for name, counts in self._given.items()}
        return {name: slices for name, slices in found.items() if slices}

    def of_group(self, key: str, image: SliceSample, scan: SliceSample) -> dict[str, Value]:
        """The group's value of each field: that of its image, else that of its scan.

        Raises:
            UserError: when a field holds anything but text, a number, true or false, or an fo.Classification; or text
                where a number is needed.
        """
        values: dict[str, Value] = {}
        for place, name in enumerate(self.stored_as):
            first = self._value(name, image.conditions[place], key)
            second = self._value(name, scan.conditions[place], key)
            self._given[name][image.slice] += first is not None
            self._given[name][scan.slice] += second is not None
            if first is not None and second is not None and first != second:
                self._conflicts[name].append(key)
            values[name] = second if first is None else first
        return values

    def _value(self, name: str, stored: object, key: str) -> Value:
        """A value as text or number; None for none."""
        value: Value
        if stored is None:
            return None
        if isinstance(stored, bool):
            value = "true" if stored else "false"
        elif isinstance(stored, int | float):
            value = None if stored != stored else float(stored)
        elif isinstance(stored, str):
            if stored not in self._texts:  # groups share few texts
                self._texts[stored] = shortened(stored.strip()) or None
            value = self._texts[stored]
        else:
            try:
                value = shortened((slice_samples.as_text(stored) or "").strip()) or None
            except UserError:
                kind = stored.get("_cls", "dict") if isinstance(stored, dict) else type(stored).__name__
                raise self._unusable(name, str(kind)) from None
        if isinstance(value, str) and self._fields[name].edges is not None:
            raise UserError(
                f"{self._path}: field '{name}' holds '{shortened(value)}' in group {shortened(key)}, but "
                "dataset.condition_fields gives it edges, which numbers need; write its name alone"
            )
        return value

    def _unusable(self, name: str, kind: str) -> UserError:
        return UserError(
            f"{self._path}: field '{shortened(name)}' (dataset.condition_fields) holds a {shortened(kind)}; text, a "
            "number, true or false, or an fo.Classification is needed"
        )

    def report_doubts(self, checks: DataChecks, slices: tuple[str, str]) -> None:
        """Warns of fields that no group has, and of slices that contradict each other."""
        empty = [name for name, counts in self._given.items() if not counts.total()]
        if self._absent or empty:
            missing = [f"no field '{shortened(name)}'" for name in self._absent]
            missing += [f"no value in field '{shortened(name)}'" for name in empty]
            known = [shortened(name) for name in self._usable if name not in empty]
            listed = ", ".join(known[:_MOST_LISTED]) + (", ..." if len(known) > _MOST_LISTED else "")
            checks.note(
                f"{', '.join(missing)} (dataset.condition_fields), so accuracy is not compared by "
                f"{'it' if len(missing) == 1 else 'them'}; fields with usable values are {listed or 'none'}"
            )
        for name, keys in self._conflicts.items():
            count = "1 group" if len(keys) == 1 else f"{len(keys):,} groups"
            checks.note(
                f"field '{shortened(name)}' (dataset.condition_fields) differs between the slices of {count}, "
                f"such as {shortened(keys[0])}; slice '{slices[0]}' counts, not '{slices[1]}'"
            )


def _usable_fields(dataset: Any) -> dict[str, str]:
    """Names in the database of all fields with values that groups can share, by name."""
    fo = database.connect()
    plain = (fo.StringField, fo.BooleanField, fo.IntField, fo.FloatField, fo.DateField, fo.DateTimeField)
    return {
        name: field.db_field or name
        for name, field in dataset.get_field_schema().items()
        if name not in _EVERY_SAMPLE
        and (isinstance(field, plain) or getattr(field, "document_type", None) is fo.Classification)
    }


def _type_name(field: Any) -> str:
    return getattr(getattr(field, "document_type", None), "__name__", None) or type(field).__name__
