"""`realm conform --guest`: the module opened, the cases that are for it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from realm_abi.sandbox import ModuleRejected

from realm_harness.case import Case, load_cases
from realm_harness.guestsuite import GUEST
from realm_harness.guestsuite.subject import GuestSubject


class GuestUnusable(Exception):
    """The module cannot be tested; the message is one line with the remedy."""


def open_guest(path: Path) -> GuestSubject:
    """The guest in a file. Raises GuestUnusable."""
    try:
        return GuestSubject.open(path)
    except ModuleRejected as rejected:
        said = str(rejected)
        raise GuestUnusable(said if said.startswith(f"{path} ") else f"{path}: {said}") from None


def guest_cases(guest: GuestSubject, globs: Iterable[str] = ()) -> list[Case]:
    """The cases for this guest, or those whose id matches one of `globs`."""
    return [case for case in load_cases(globs, GUEST) if guest.answers(case)]
