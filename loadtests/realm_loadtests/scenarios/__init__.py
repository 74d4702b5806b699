"""What users do: small files, a class a scenario. `SCENARIOS` names them; a new one is a class and a line."""

from __future__ import annotations

from random import Random
from typing import Final

from realm_loadtests.scenarios.chat import Chat
from realm_loadtests.scenarios.drawn import Drawn
from realm_loadtests.scenarios.forms import Adapters, Structured
from realm_loadtests.scenarios.habits import Cancel, SlowReaders
from realm_loadtests.scenarios.lengths import LongAnswer, LongPrompt, Mixed
from realm_loadtests.scenarios.prefixes import Conversation, SharedPrefix
from realm_loadtests.scenarios.scenario import Ask, Scenario
from realm_loadtests.settings import Settings

__all__ = ["SCENARIOS", "Ask", "Scenario", "user_scenario"]

SCENARIOS: Final[dict[str, type[Scenario]]] = {
    "chat": Chat,
    "long-prompt": LongPrompt,
    "long-answer": LongAnswer,
    "lengths": Drawn,
    "mixed": Mixed,
    "shared-prefix": SharedPrefix,
    "conversation": Conversation,
    "structured": Structured,
    "adapters": Adapters,
    "cancel": Cancel,
    "slow-readers": SlowReaders,
}


def user_scenario(settings: Settings, worker: int, user: int) -> Scenario:
    """The scenario of one user: the run's seed decides what it asks, and no two users share their chance."""
    return SCENARIOS[settings.scenario](settings, Random(f"{settings.seed}/{worker}/{user}"))
