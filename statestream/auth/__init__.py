"""Who sends a request, and rules about what they may do.

An authenticator recognizes who sends a request. Pass one to `create_app(store, auth=…)`. Any async function of a
request that returns an `Identity` or None is an authenticator too. The rules are for `Slice(read=…, dispatch=…)`.
"""

from statestream.core.principal import Identity
from statestream.core.rules import anyone, role, signed_in
from statestream.server.authentication import Authenticator

__all__ = ["Authenticator", "Identity", "anyone", "role", "signed_in"]
