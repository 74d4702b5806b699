"""MockServer: an OpenAI chat server with an exact token schedule, planted defects and innocent habits."""

from realm_mocks.server.catalogue import DEFECTS, HABITS
from realm_mocks.server.mock_server import MockServer
from realm_mocks.server.records import RequestRecord
from realm_mocks.server.schedule import Schedule
from realm_mocks.server.variation import Variation

__all__ = ["DEFECTS", "HABITS", "MockServer", "RequestRecord", "Schedule", "Variation"]
