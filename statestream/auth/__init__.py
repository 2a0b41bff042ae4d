"""Who sends a request, and rules about what they may do.

An authenticator recognizes who sends a request. Pass one to `create_app(store, auth=…)`. Any async function of a
request that returns an `Identity` or None is an authenticator too. The rules are for `Slice(read=…, dispatch=…)`.

    credentials   the token of a request, and why it is refused
    tokens        static tokens, by their hashes
    jwt           signed tokens of an issuer
    jwks          the keys that an issuer publishes, in a file or at a URL
    proxy_header  an identity that a proxy has established
    any_of        several authenticators, one after the other

Invariants: an authenticator never takes an identity from the query or the body of a request. Wrong credentials are
refused, and not ignored. No error and no log line contains a credential, or anything else that the request contains.
"""

from statestream.auth.any_of import AnyOf
from statestream.auth.jwt import JWT
from statestream.auth.proxy_header import ProxyHeader
from statestream.auth.tokens import Tokens
from statestream.core.principal import Identity
from statestream.core.rules import anyone, role, signed_in
from statestream.server.authentication import Authenticator

__all__ = ["JWT", "AnyOf", "Authenticator", "Identity", "ProxyHeader", "Tokens", "anyone", "role", "signed_in"]
