"""Authenticators: they recognize who sends a request. Pass one to `create_app(store, auth=…)`.

Any async function of a request that returns an `Identity` or None is an authenticator too.
"""

from statestream.core.principal import Identity
from statestream.server.authentication import Authenticator

__all__ = ["Authenticator", "Identity"]
