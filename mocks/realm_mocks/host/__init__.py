"""A host for guests, without a model: scripted answers, recorded calls, planned faults, canaries.

`MockHost` is the way in. What a test writes is a script (`winners`, `Fixed`, `Hashed`, ...) and perhaps a
fault plan (`Fault`); what it reads is a `Run`. Needs wasmtime (the extra `guest`).
"""

from realm_mocks.host.canaries import Mode, Stain
from realm_mocks.host.faults import (
    Action,
    Cancel,
    Delay,
    Fault,
    FaultPlan,
    Grow,
    Overlong,
    Poison,
    Return,
    ShortWrite,
    Stop,
    Trap,
)
from realm_mocks.host.layers import LayerwiseModel
from realm_mocks.host.mock import Guest, MockHost, MockInstance, load_guest, shared_runtime
from realm_mocks.host.model import ScriptedModel
from realm_mocks.host.outcome import Answer, Run
from realm_mocks.host.record import Call, Trace, Window
from realm_mocks.host.rules import RULES, Finding
from realm_mocks.host.script import (
    Computed,
    Fixed,
    Hashed,
    Logits,
    Moment,
    Script,
    Step,
    Table,
    Winners,
    winners,
)
from realm_mocks.host.sessions import Session, SessionTable
from realm_mocks.host.vocabulary import Tokenizer, Vocabulary, default_vocabulary

__all__ = [
    "RULES",
    "Action",
    "Answer",
    "Call",
    "Cancel",
    "Computed",
    "Delay",
    "Fault",
    "FaultPlan",
    "Finding",
    "Fixed",
    "Grow",
    "Guest",
    "Hashed",
    "LayerwiseModel",
    "Logits",
    "MockHost",
    "MockInstance",
    "Mode",
    "Moment",
    "Overlong",
    "Poison",
    "Return",
    "Run",
    "Script",
    "ScriptedModel",
    "Session",
    "SessionTable",
    "ShortWrite",
    "Stain",
    "Step",
    "Stop",
    "Table",
    "Tokenizer",
    "Trace",
    "Trap",
    "Vocabulary",
    "Window",
    "Winners",
    "default_vocabulary",
    "load_guest",
    "shared_runtime",
    "winners",
]
